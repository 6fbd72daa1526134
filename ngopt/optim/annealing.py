"""Built-in annealing of a parameter group, which stops when the script lowers the learning rate.

Until then, steps begin large and shrink with their number. Afterwards the learning rate alone
decides how steps shrink.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.backends.dispatch import is_free_to_read
from ngopt.features.numbers import Number, either, larger, smaller
from ngopt.rules.rule import Rule

ROUNDING = 1e-6
"""Relative difference from the peak up to which a learning rate counts as rounded, not changed."""

LARGEST = 1e-2
"""Annealing never makes steps larger than AdamW's at this learning rate, or at the script's if that
is higher. Models of tables and graphs that train well at this size diverge at six times it."""

TINY = 1e-30
"""Least learning rate in divisions, so that 0 gives no infinity."""

DEFAULTS: dict[str, Any] = {
    "anneal": None,
    "age": 0,
    "peak_lr": 0.0,
    "lowered": False,
    "steps": 0,
}
"""Entries of a parameter group that belong to annealing, and their defaults."""


class Clock(NamedTuple):
    """State of annealing: numbers, or 0-dim tensors on the device of the parameters.

    Args:
        age: number of steps that annealing counts.
        peak_lr: largest learning rate so far.
        lowered: whether it has been lower than that since.
        steps: number of all steps.
    """

    age: Number
    peak_lr: Number
    lowered: bool | Tensor
    steps: Number

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> "Clock":
        """The clock of a parameter group."""
        return cls(*(group.get(key, DEFAULTS[key]) for key in cls._fields))

    def numbers(self) -> "Clock":
        """This clock in Python numbers."""
        # Options may be tensors that require gradients.
        age, peak, lowered, steps = (v.detach() if isinstance(v, Tensor) else v for v in self)
        return Clock(int(age), float(peak), bool(lowered), int(steps))

    def tensors(self, device: torch.device) -> "Clock":
        """This clock in new tensors on a device."""

        def made(number: float, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((), number, dtype=dtype, device=device)

        age, peak, lowered, steps = map(float, self.numbers())
        return Clock(made(age), made(peak), made(lowered, torch.bool), made(steps))

    def after(self, lr: Number, rule: Rule) -> "Clock":
        """The clock after one more step.

        Warm-up steps count too, but only until the annealing factor has come down to 1.

        Args:
            lr: learning rate of that step.
            rule: that anneals.
        """
        raised = lr > self.peak_lr * (1 + ROUNDING)
        lowered = self.lowered | (lr < self.peak_lr * (1 - ROUNDING))
        held = lowered | (raised & (_factor(rule, self.age + 1, False) < 1.0))
        age = either(held, self.age, self.age + 1)
        return Clock(age, larger(lr, self.peak_lr), lowered, self.steps + 1)


def next_clock(group: Mapping[str, Any], rule: Rule) -> tuple[Clock, Number]:
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


def weight_decay(group: Mapping[str, Any], clock: Clock, rule: Rule) -> Number | None:
    """The rule's weight decay for a group that has none of its own; None for any other group.

    Args:
        group: a parameter group.
        clock: of the group, at this step.
        rule: that decides.
    """
    return rule.weight_decay(clock.steps) if group.get("weight_decay", 0.0) is None else None


def _factor(rule: Rule, age: Number, lowered: bool | Tensor) -> Number:
    """The rule's factor; a number if all is in numbers."""
    factor = rule.annealing_factor(age, lowered)
    return factor if isinstance(age, Tensor) or isinstance(lowered, Tensor) else float(factor)


def match_device(group: MutableMapping[str, Any]) -> None:
    """Convert the clock of a group, which may come from any checkpoint, to what its steps need.

    A capturable group needs tensors on the device of its parameters, any other group numbers.
    """
    if not matches_device(group):
        clock, device = Clock.of(group), _wanted(group)
        group.update((clock.numbers() if device is None else clock.tensors(device))._asdict())


def matches_device(group: Mapping[str, Any]) -> bool:
    """Whether :func:`match_device` has nothing to do."""
    return {_device(value) for value in Clock.of(group)} == {_wanted(group)}


def _wanted(group: Mapping[str, Any]) -> torch.device | None:
    return group["params"][0].device if group.get("capturable") and group["params"] else None


def _device(value: Number) -> torch.device | None:
    return value.device if isinstance(value, Tensor) else None


def copy_clock(group: MutableMapping[str, Any]) -> None:
    """Copy the tensors of a group's clock, which may have been taken from another optimizer."""
    for key, value in Clock.of(group)._asdict().items():
        if isinstance(value, Tensor):
            group[key] = value.clone()


def store_clock(group: MutableMapping[str, Any], clock: Clock, finite: Tensor) -> None:
    """Write the clock after a step into its group; tensors are overwritten in place.

    Args:
        group: a parameter group.
        clock: what :func:`next_clock` returned.
        finite: whether the step was done, 0-dim. For a clock in numbers, it is read only where
            that does not wait for a device.
    """
    if isinstance(clock.age, Tensor):
        for key, after in clock._asdict().items():
            group[key].copy_(torch.where(finite.to(group[key].device), after, group[key]))
    elif not is_free_to_read(finite) or finite:
        group.update(clock._asdict())


def restart(group: MutableMapping[str, Any]) -> None:
    """Reset the clock of a group; tensors are overwritten in place."""
    for key in Clock._fields:
        if isinstance(group.get(key), Tensor):
            group[key].fill_(DEFAULTS[key])
        else:
            group[key] = DEFAULTS[key]


def describe(group: Mapping[str, Any], rule: Rule) -> str:
    """The options of a group, one per line, with those in words that the rule decides.

    Args:
        group: a parameter group.
        rule: that anneals, or not.

    >>> from ngopt.rules import MatrixGNN
    >>> print(describe({"lr": 1e-3, **DEFAULTS, "age": 7}, MatrixGNN()), end="")
        anneal: None (steps shrink by themselves until lr is lowered; 7 so far)
        lr: 0.001
    """
    hidden = ("params", *Clock._fields)
    shown = {key: str(value) for key, value in group.items() if key not in hidden}
    shown["anneal"] = f"{group.get('anneal')} ({_explanation(group, rule)})"
    decay = weight_decay(group, Clock.of(group).numbers(), rule)
    if decay is not None:
        shown["weight_decay"] = f"None (the rule's own: {decay:.3g} for matrices)"
    return "".join(f"    {key}: {shown[key]}\n" for key in sorted(shown))


def _explanation(group: Mapping[str, Any], rule: Rule) -> str:
    anneal, clock = group.get("anneal"), Clock.of(group)
    if rule.annealing_factor(1) == rule.annealing_factor(10**9) == 1.0:
        return "the rule has no annealing of its own; lr alone makes steps shrink"
    if anneal is None and clock.lowered:
        return "lr was lowered; now it alone makes steps shrink"
    if anneal is None:
        return f"steps shrink by themselves until lr is lowered; {int(clock.age):,} so far"
    if anneal:
        return f"steps shrink by themselves, also while lr is lowered; {int(clock.age):,} so far"
    return "lr alone makes steps shrink"
