"""Built-in annealing of a parameter group, and how it makes way for a schedule of the script.

Until the learning rate is lowered, steps begin large and shrink with their number. Once a script
lowers it, it alone decides how steps shrink: annealing holds still.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ngopt.rules.rule import Rule

ROUNDING = 1e-6
"""A learning rate that is this near to its peak, relative to it, has been rounded, not changed."""

LARGEST = 1e-2
"""Steps are no larger than AdamW's at this learning rate, or at the script's if that is higher.
What suits tables and graphs at that size throws them off at six times it."""

DEFAULTS: dict[str, Any] = {"anneal": None, "age": 0, "peak_lr": 0.0, "lowered": False}
"""What a parameter group holds of its annealing."""


class Clock(NamedTuple):
    """How far annealing has come.

    Args:
        age: number of steps that annealing counts.
        peak_lr: largest learning rate so far.
        lowered: whether it has been lower than that since.
    """

    age: int
    peak_lr: float
    lowered: bool

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "Clock":
        """That of a parameter group."""
        return cls(*(group.get(key, DEFAULTS[key]) for key in cls._fields))

    def after(self, lr: float, rule: Rule) -> "Clock":
        """The same after one more step.

        Steps of a warm-up count as others do, but not beyond the age at which steps are AdamW's.

        Args:
            lr: learning rate of that step.
            rule: that anneals.
        """
        raised = lr > self.peak_lr * (1 + ROUNDING)
        lowered = self.lowered or lr < self.peak_lr * (1 - ROUNDING)
        held = lowered or (raised and bool(rule.annealed(self.age + 1) < 1.0))
        return Clock(self.age + (not held), max(lr, self.peak_lr), lowered)


def annealed(group: Mapping[str, Any], rule: Rule) -> tuple[Clock, float]:
    """The clock of a group after one more step, and the factor of its learning rate at that step.

    Args:
        group: a parameter group; it is left as it is.
        rule: that anneals.
    """
    lr, anneal, before = group["lr"], group.get("anneal"), Clock.of(group)
    clock = before.after(float(lr.detach()) if isinstance(lr, Tensor) else float(lr), rule)
    if anneal:
        clock = clock._replace(age=before.age + 1)
    lowered = clock.lowered if anneal is None else not anneal
    factor = float(rule.annealed(0 if anneal is False else clock.age, lowered))
    most = LARGEST / clock.peak_lr if clock.peak_lr else factor
    return clock, min(factor, max(1.0, most))


def described(group: Mapping[str, Any], rule: Rule) -> str:
    """The options of a group, one a line, with what makes its steps shrink in plain words.

    Args:
        group: a parameter group.
        rule: that anneals, or not.

    >>> from ngopt.rules import MatrixGNN
    >>> print(described({"lr": 1e-3, **DEFAULTS, "age": 7}, MatrixGNN()), end="")
        anneal: None (steps shrink by themselves until lr is lowered; 7 so far)
        lr: 0.001
    """
    hidden = ("params", *Clock._fields)
    shown = {key: str(value) for key, value in group.items() if key not in hidden}
    shown["anneal"] = f"{group.get('anneal')} ({_words(group, rule)})"
    return "".join(f"    {key}: {shown[key]}\n" for key in sorted(shown))


def _words(group: Mapping[str, Any], rule: Rule) -> str:
    anneal, clock = group.get("anneal"), Clock.of(group)
    if rule.annealed(1) == rule.annealed(10**9) == 1.0:
        return "the rule has no annealing of its own; lr alone makes steps shrink"
    if anneal is None and clock.lowered:
        return "lr was lowered; now it alone makes steps shrink"
    if anneal is None:
        return f"steps shrink by themselves until lr is lowered; {clock.age:,} so far"
    if anneal:
        return f"steps shrink by themselves, also while lr is lowered; {clock.age:,} so far"
    return "lr alone makes steps shrink"
