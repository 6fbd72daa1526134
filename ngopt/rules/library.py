"""Rules by name and by file."""

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ngopt.errors import RuleError
from ngopt.nn.files import SUFFIX, Files, fingerprint, with_new_names
from ngopt.rules.rule import Rule

__all__ = [
    "FORMAT",
    "PRETRAINED",
    "SUFFIX",
    "current_config",
    "current_spec",
    "fingerprint",
    "list_rules",
    "load_rule",
    "rule_classes",
    "rule_path",
    "save_rule",
]

FORMAT = "ngopt-rule-1"
PRETRAINED = Path(__file__).parent.parent / "pretrained"

NEW_NAMES = {"skeleton": "base_update"}
"""Options of rules that have been renamed, by their old names, which saved files may hold."""


def list_rules() -> list[str]:
    """Return the names of the rules that come with ngopt, for :func:`load_rule`.

    >>> "default" in list_rules()
    True
    """
    return sorted(path.stem for path in PRETRAINED.glob(f"*{SUFFIX}"))


def load_rule(name_or_path: str | PathLike[str]) -> Rule:
    """Load a rule that comes with ngopt, or one from a file.

    Args:
        name_or_path: one of :func:`list_rules`, or the path of a `.safetensors` file that
            :func:`save_rule` wrote.

    Returns:
        The rule, another object each time. One that has learned nothing yet is not loaded but
        built, such as `ngopt.rules.MatrixGNN()`.

    Raises:
        RuleError: if there is no such rule, or the file is missing, damaged, or of another
            architecture than its theta.
    """
    return _read(rule_path(name_or_path))


def rule_path(name_or_path: str | PathLike[str]) -> Path:
    """Where the file of a rule is, or should be.

    Args:
        name_or_path: one of :func:`list_rules`, or a path that ends in `.safetensors`.

    Raises:
        RuleError: if it is neither.
    """
    if Path(name_or_path).suffix == SUFFIX:
        return Path(name_or_path)
    if str(name_or_path) in list_rules():
        return PRETRAINED / f"{name_or_path}{SUFFIX}"
    raise RuleError(
        f"there is no rule `{name_or_path}`.\n  Use one of: {', '.join(list_rules())}; "
        f"or the path of a file that ngopt saved (*{SUFFIX})."
    )


def save_rule(rule: Rule, path: str | PathLike[str]) -> None:
    """Write a rule to a `.safetensors` file, for :func:`load_rule`.

    A file that is there already is replaced when the new one is whole.

    Args:
        rule: the rule; its config must be plain data.
        path: the file; must end in `.safetensors`.

    Raises:
        RuleError: if the path has another ending.
    """
    _FILES.write(rule, path, lr=repr(rule.lr))


def _read(path: Path) -> Rule:
    if not path.is_file():
        raise RuleError(f"there is no file `{path}`.\n  Known rules: {', '.join(list_rules())}.")
    return _FILES.read(path)


def _set_lr(rule: Rule, metadata: Mapping[str, str]) -> None:
    rule.lr = float(metadata["lr"])
    if not 0 <= rule.lr < math.inf:
        raise ValueError(f"its learning rate is {rule.lr}")


def current_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule's config, which may be from an older file, with today's names of options."""
    return with_new_names(config, NEW_NAMES)


def current_spec(text: str) -> str:
    """The same for the text of a rule and its options, such as `MatrixGNN:skeleton={}`."""
    for old, new in NEW_NAMES.items():
        text = text.replace(f"{old}=", f"{new}=").replace(f"'{old}':", f"'{new}':")
    return text


def rule_classes() -> dict[str, type[Rule]]:
    """Every class of rules that has been imported and can be built, by name."""
    return _FILES.classes()


_FILES = Files("rule", FORMAT, Rule, RuleError, "ngopt.save_rule", _set_lr, NEW_NAMES)  # type: ignore[type-abstract]
