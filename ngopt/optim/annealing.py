"""Built-in annealing of a parameter group, and how it makes way for a schedule of the script.

Until the learning rate is lowered, steps begin large and shrink with their number. Once a script
lowers it, it alone decides how steps shrink: annealing holds still.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.backends.switch import known_at_once
from ngopt.features.numbers import Number, either, larger, smaller
from ngopt.rules.rule import Rule

ROUNDING = 1e-6
"""A learning rate that is this near to its peak, relative to it, has been rounded, not changed."""

LARGEST = 1e-2
"""Steps are no larger than AdamW's at this learning rate, or at the script's if that is higher.
What suits tables and graphs at that size throws them off at six times it."""

TINY = 1e-30
"""A learning rate below which it bounds nothing."""

DEFAULTS: dict[str, Any] = {"anneal": None, "age": 0, "peak_lr": 0.0, "lowered": False}
"""What a parameter group holds of its annealing."""


class Clock(NamedTuple):
    """How far annealing has come: numbers, or 0-dim tensors on the device of steps.

    Args:
        age: number of steps that annealing counts.
        peak_lr: largest learning rate so far.
        lowered: whether it has been lower than that since.
    """

    age: Number
    peak_lr: Number
    lowered: bool | Tensor

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "Clock":
        """That of a parameter group."""
        return cls(*(group.get(key, DEFAULTS[key]) for key in cls._fields))

    def numbers(self) -> "Clock":
        """The same in numbers."""
        # Whoever tunes options may have made tensors of them that ask for derivatives.
        age, peak, lowered = (v.detach() if isinstance(v, Tensor) else v for v in self)
        return Clock(int(age), float(peak), bool(lowered))

    def tensors(self, device: torch.device) -> "Clock":
        """The same in new tensors on a device."""

        def made(number: float, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((), number, dtype=dtype, device=device)

        age, peak, lowered = map(float, self.numbers())
        return Clock(made(age), made(peak), made(lowered, torch.bool))

    def after(self, lr: Number, rule: Rule) -> "Clock":
        """The same after one more step.

        Steps of a warm-up count as others do, but not beyond the age at which steps are AdamW's.

        Args:
            lr: learning rate of that step.
            rule: that anneals.
        """
        raised = lr > self.peak_lr * (1 + ROUNDING)
        lowered = self.lowered | (lr < self.peak_lr * (1 - ROUNDING))
        held = lowered | (raised & (_factor(rule, self.age + 1, False) < 1.0))
        age = either(held, self.age, self.age + 1)
        return Clock(age, larger(lr, self.peak_lr), lowered)


def annealed(group: Mapping[str, Any], rule: Rule) -> tuple[Clock, Number]:
    """The clock of a group after one more step, and the factor of its learning rate at that step.

    Args:
        group: a parameter group; it is left as it is.
        rule: that anneals.

    Returns:
        Tensors if the clock of the group is in tensors, whose values nobody reads; else numbers.
    """
    lr, anneal, before = group["lr"], group.get("anneal"), Clock.of(group)
    if isinstance(lr, Tensor):
        lr = lr.detach().reshape(())
        lr = lr.to(before.age.device) if isinstance(before.age, Tensor) else float(lr)
    clock = before.after(lr, rule)
    if anneal:
        clock = clock._replace(age=before.age + 1)
    lowered = clock.lowered if anneal is None else not anneal
    factor = _factor(rule, 0 if anneal is False else clock.age, lowered)
    most = LARGEST / larger(clock.peak_lr, TINY)
    return clock, smaller(factor, larger(most, 1.0))


def _factor(rule: Rule, age: Number, lowered: bool | Tensor) -> Number:
    """The rule's factor; a number if all is in numbers."""
    factor = rule.annealed(age, lowered)
    return factor if isinstance(age, Tensor) or isinstance(lowered, Tensor) else float(factor)


def settle(group: MutableMapping[str, Any]) -> None:
    """Have the clock of a group in what its steps need, whatever checkpoint it comes from.

    That is in tensors where its parameters are, if steps can be captured, else in numbers.
    """
    if not settled(group):
        clock, device = Clock.of(group), _wanted(group)
        group.update((clock.numbers() if device is None else clock.tensors(device))._asdict())


def settled(group: Mapping[str, Any]) -> bool:
    """Whether :func:`settle` has nothing to do."""
    return {_device(value) for value in Clock.of(group)} == {_wanted(group)}


def _wanted(group: Mapping[str, Any]) -> torch.device | None:
    return group["params"][0].device if group.get("capturable") and group["params"] else None


def _device(value: Number) -> torch.device | None:
    return value.device if isinstance(value, Tensor) else None


def separate(group: MutableMapping[str, Any]) -> None:
    """Give a group a clock of its own, which tensors taken from another optimizer are not."""
    for key, value in Clock.of(group)._asdict().items():
        if isinstance(value, Tensor):
            group[key] = value.clone()


def put_forward(group: MutableMapping[str, Any], clock: Clock, finite: Tensor) -> None:
    """Have the clock of a group show what it does after a step; tensors keep their places.

    Args:
        group: a parameter group.
        clock: what :func:`annealed` returned.
        finite: whether the step was done, 0-dim. Of a clock in numbers, it is only asked where it
            costs nothing to know.
    """
    if isinstance(clock.age, Tensor):
        for key, after in clock._asdict().items():
            group[key].copy_(torch.where(finite.to(group[key].device), after, group[key]))
    elif not known_at_once(finite) or finite:
        group.update(clock._asdict())


def restart(group: MutableMapping[str, Any]) -> None:
    """Have the clock of a group begin anew; tensors keep their places."""
    for key in Clock._fields:
        if isinstance(group.get(key), Tensor):
            group[key].fill_(DEFAULTS[key])
        else:
            group[key] = DEFAULTS[key]


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
        return f"steps shrink by themselves until lr is lowered; {int(clock.age):,} so far"
    if anneal:
        return f"steps shrink by themselves, also while lr is lowered; {int(clock.age):,} so far"
    return "lr alone makes steps shrink"
