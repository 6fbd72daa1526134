"""Built-in annealing of a parameter group, and how it makes way for a schedule of the script.

As long as the learning rate stays what it was, steps begin large and shrink with their number. Once
a script changes it, steps are never much larger than AdamW's; once it is lowered, it alone decides
how they shrink: annealing holds still.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ngopt.rules.rule import Rule

ROUNDING = 1e-6
"""A learning rate that is this near to its peak, relative to it, has been rounded, not changed."""

DEFAULTS: dict[str, Any] = {
    "anneal": None,
    "age": 0,
    "peak_lr": 0.0,
    "scheduled": False,
    "lowered": False,
}
"""What a parameter group holds of its annealing."""


class Clock(NamedTuple):
    """How far annealing has come.

    Args:
        age: number of steps at the peak of the learning rate; warm-up does not count.
        peak_lr: largest learning rate so far.
        scheduled: whether it has ever changed.
        lowered: whether it has been lower than its peak since.
    """

    age: int
    peak_lr: float
    scheduled: bool
    lowered: bool

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "Clock":
        """That of a parameter group."""
        return cls(*(group.get(key, DEFAULTS[key]) for key in cls._fields))

    def after(self, lr: float) -> "Clock":
        """The same after one more step.

        Args:
            lr: learning rate of that step.

        >>> clock = Clock(0, 0.0, False, False)
        >>> for lr in (0.1, 0.2, 0.2, 0.2, 0.1):
        ...     clock = clock.after(lr)
        ...     print(clock.age, clock.scheduled, clock.lowered)
        1 False False
        1 True False
        2 True False
        3 True False
        3 True True
        """
        if not self.age:
            return Clock(1, lr, self.scheduled, self.lowered)
        raised = lr > self.peak_lr * (1 + ROUNDING)
        lowered = self.lowered or lr < self.peak_lr * (1 - ROUNDING)
        age = self.age + (not raised and not lowered)
        return Clock(age, max(lr, self.peak_lr), self.scheduled or raised or lowered, lowered)


def annealed(group: Mapping[str, Any], rule: Rule) -> tuple[Clock, float]:
    """The clock of a group after one more step, and the factor of its learning rate at that step.

    Args:
        group: a parameter group; it is left as it is.
        rule: that anneals.
    """
    lr, anneal, before = group["lr"], group.get("anneal"), Clock.of(group)
    clock = before.after(float(lr.detach()) if isinstance(lr, Tensor) else float(lr))
    if anneal:
        clock = clock._replace(age=before.age + 1)
    scheduled = clock.scheduled if anneal is None else not anneal
    return clock, float(rule.annealed(0 if anneal is False else clock.age, scheduled))


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
