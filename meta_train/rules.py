"""Rules by the text that names them on the command line."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meta_train import checkpoint
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up, parse
from ngopt.errors import NgoptError
from ngopt.rules.library import SUFFIX, current_config, list_rules, load_rule, rule_classes
from ngopt.rules.rule import Rule


def rule_of(text: str) -> Rule:
    """Build or load a rule.

    Args:
        text: a class of rules with options, such as `MatrixGNN:rounds=1,graph_context=False`; one
            of :func:`ngopt.list_rules`; a `.safetensors` file; or the folder of a run of
            meta-training, whose newest theta it is.

    Raises:
        MetaTrainError: if there is no such rule, or the class refuses the options.
        RuleError: if a file is missing or damaged, or an option makes no sense.

    >>> rule_of("MatrixGNN:rounds=1,graph_context=False").config["rounds"]
    1
    """
    classes = rule_classes()
    name = text.partition(":")[0]
    if name in classes:
        return _build(classes[name], current_config(parse(text).options), text)
    if text in list_rules() or Path(text).suffix == SUFFIX:
        return load_rule(text)
    if Path(text).is_dir():
        return rule_in(newest(Path(text)))
    raise MetaTrainError(
        f"there is no rule `{text}`.\n  Use a class: {', '.join(sorted(classes))}; "
        f"a name: {', '.join(list_rules())}; a file *{SUFFIX}; or the folder of a run."
    )


def newest(folder: Path) -> dict[str, Any]:
    """State in the newest checkpoint of a run.

    Raises:
        MetaTrainError: if there is none.
    """
    found = checkpoint.latest(folder)
    if found is None:
        raise MetaTrainError(
            f"there is no checkpoint in `{folder}`.\n"
            "  Give the folder of a run: what `python -m meta_train train --folder` was given."
        )
    return found[1]


def rule_in(state: Mapping[str, Any]) -> Rule:
    """Build the rule of a checkpoint, with its theta.

    Args:
        state: of the checkpoint.

    Raises:
        MetaTrainError: if the class of the rule is not known.
    """
    described = state["rule"]
    cls = look_up(rule_classes(), described["class"], "class of rules (imported so far)")
    rule = cls(**current_config(json.loads(described["config"])))
    rule.load_state_dict(state["theta"])
    rule.lr = described["lr"]
    return rule


def _build(cls: type[Rule], options: Mapping[str, Any], text: str) -> Rule:
    _check_numbers(cls, options, text)
    try:
        return cls(**options)
    except NgoptError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetaTrainError(
            f"cannot build the rule `{text}`: {error}.\n"
            f"  Options of {cls.__name__}: {', '.join(_options(cls)) or 'none'}."
        ) from error


def _check_numbers(cls: type[Rule], options: Mapping[str, Any], text: str) -> None:
    """Raise `MetaTrainError` if an option whose default is a number is given a word."""
    known = _options(cls)
    for name, value in options.items():
        default = known.get(name)
        if isinstance(default, int | float) and isinstance(value, str):
            raise MetaTrainError(
                f"cannot build the rule `{text}`: {name}={value} is not a number.\n"
                f"  Use something like its default: {name}={default}."
            )


def _options(cls: type[Rule]) -> dict[str, Any]:
    """Options of a class, and those that it hands on to its base, with their defaults."""
    names: dict[str, Any] = {}
    for base in cls.__mro__[: cls.__mro__.index(Rule)]:
        parameters = inspect.signature(base).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        names |= {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names
