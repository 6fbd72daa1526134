"""Rules by name and by file: safetensors with the rule's class, config and a hash of theta."""

import hashlib
import json
import math
from collections.abc import Mapping
from inspect import isabstract
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ngopt.errors import OF_DAMAGED_DATA, RuleError
from ngopt.rules.bounded import Bounded
from ngopt.rules.rule import Rule

FORMAT = "ngopt-rule-1"
SUFFIX = ".safetensors"
SPARE = 2**16
"""Numbers that a rule may make as it is built, beside a hundred for each of its weights."""

PRETRAINED = Path(__file__).parent.parent / "pretrained"


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
    if Path(path).suffix != SUFFIX:
        raise RuleError(f"cannot save a rule as `{path}`.\n  Use a path that ends in {SUFFIX}.")
    theta = {name: tensor.detach().cpu().contiguous() for name, tensor in _theta(rule).items()}
    metadata = {
        "format": FORMAT,
        "rule": type(rule).__name__,
        "config": json.dumps(rule.config, sort_keys=True),
        "lr": repr(rule.lr),
        "sha256": fingerprint(theta),
    }
    partial = Path(f"{path}.partial")
    try:
        save_file(theta, partial, metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> Rule:
    if not path.is_file():
        raise RuleError(f"there is no file `{path}`.\n  Known rules: {', '.join(list_rules())}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            theta = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RuleError(
            f"the file `{path}` is damaged ({error}).\n  Copy or save it again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise RuleError(
            f"the file `{path}` holds no rule of this version of ngopt: its format is "
            f"{metadata.get('format')!r}, not {FORMAT!r}.\n  Save the rule with ngopt.save_rule."
        )
    if metadata.get("sha256") != fingerprint(theta):
        raise RuleError(
            f"the file `{path}` is damaged: its weights are not those that were saved.\n"
            "  Copy or save it again."
        )
    _check_numbers(path, theta)
    rule = _build(path, metadata, sum(tensor.numel() for tensor in theta.values()))
    _fill(path, rule, theta)
    return rule


def _check_numbers(path: Path, theta: Mapping[str, Tensor]) -> None:
    for name, tensor in theta.items():
        if not (tensor.is_floating_point() and tensor.isfinite().all()):
            raise RuleError(
                f"the weights `{name}` in `{path}` are not all finite numbers ({tensor.dtype}).\n"
                "  Save the rule again, from before its meta-training diverged."
            )


def _build(path: Path, metadata: Mapping[str, str], weights: int) -> Rule:
    name = metadata.get("rule")
    classes = rule_classes()
    if name not in classes:
        raise RuleError(
            f"the file `{path}` holds a `{name}`, which is none of the known rules: "
            f"{', '.join(sorted(classes))}.\n  Import the module that defines it first."
        )
    try:
        config: dict[str, Any] = json.loads(metadata["config"])
        with Bounded(SPARE + 100 * weights):
            rule = classes[name](**config)
        rule.lr = float(metadata["lr"])
        if not 0 <= rule.lr < math.inf:
            raise ValueError(f"its learning rate is {rule.lr}")
        return rule
    except OF_DAMAGED_DATA as error:
        raise RuleError(
            f"the file `{path}` does not tell how to build its `{name}` ({error}).\n"
            "  It was saved by another version of ngopt: save it again with this one."
        ) from error


def _fill(path: Path, rule: Rule, theta: Mapping[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in _theta(rule).items()}
    found = {name: tuple(tensor.shape) for name, tensor in theta.items()}
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        details = "; ".join(
            f"`{name}` is {found.get(name, 'absent')}, should be {expected.get(name, 'absent')}"
            for name in wrong[:3]
        )
        raise RuleError(
            f"the weights in `{path}` do not fit a {type(rule).__name__} of its config: {details} "
            f"({len(wrong)} in all).\n  Save the rule again with ngopt.save_rule."
        )
    rule.load_state_dict(theta)


def _theta(rule: Rule) -> dict[str, Tensor]:
    return dict(rule.state_dict())


def fingerprint(theta: Mapping[str, Tensor]) -> str:
    """SHA-256 of a rule's weights: names, dtypes, shapes and values, whatever the device."""
    digest = hashlib.sha256()
    for name in sorted(theta):
        tensor = theta[name]
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(data.numpy().tobytes())
    return digest.hexdigest()


def rule_classes() -> dict[str, type[Rule]]:
    """Every class of rules that has been imported and can be built, by name."""
    waiting: list[type[Rule]] = Rule.__subclasses__()
    found = {}
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if not isabstract(cls):
            found[cls.__name__] = cls
    return found
