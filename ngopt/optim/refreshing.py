"""When a rule looks at the whole model, if it does not do so at every step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ngopt.optim.uncompiled import uncompiled

FIRST = 10
"""Number of first steps, in which much changes: a rule looks at the whole model at each of them."""

STEADY = 16
"""Number of looks after the first steps until the interval between looks doubles."""

LONGEST = 8
"""Largest factor by which it grows: the longer training goes on, the less changes in a step."""


def interval(step: int, every: int) -> int:
    """Number of steps from one look at the whole model to the next, after the first steps.

    It doubles after `STEADY * every` steps, and again each time that their number has doubled.

    Args:
        step: counted from 0.
        every: number of steps from one look to the next, in the beginning; 1 for a look at each.

    >>> [interval(step, 8) for step in (10, 137, 138, 265, 266, 522, 5000)]
    [8, 8, 16, 16, 32, 64, 64]
    """
    times = 1
    while every > 1 and times < LONGEST and step + 1 - FIRST > STEADY * every * times:
        times *= 2
    return every * times


def refreshes(step: int, every: int) -> bool:
    """Whether a rule looks at the whole model at a step.

    Args:
        step: counted from 0.
        every: as for :func:`interval`.

    >>> [step for step in range(20) if not refreshes(step, 4)]
    [10, 11, 12, 14, 15, 16, 18, 19]
    """
    return step < FIRST or (step + 1 - FIRST) % interval(step, every) == 0


@dataclass
class Refreshing:
    """Keeps account of when each parameter was last seen as a part of the whole model.

    Args:
        step: number of steps so far, since the last time that a parameter was new.
        since: by name of the parameter, the number of its own steps since then: of those in which
            it had a gradient.
    """

    step: int = 0
    since: dict[str, int] = field(default_factory=dict)

    @uncompiled
    def due(self, names: Iterable[str], every: int) -> bool:
        """Begin a step.

        Args:
            names: of the parameters that have a gradient.
            every: as for :func:`interval`.

        Returns:
            Whether the rule has to look now: at the first steps, and where one of the parameters
            has made as many steps since it was last looked at. If one never was, the first steps
            begin anew.
        """
        names = list(names)
        if any(name not in self.since for name in names):
            self.step = 0
        most = interval(self.step, every)
        since = {name: self.since.get(name, most) for name in names}
        fresh = self.step < FIRST or any(steps >= most for steps in since.values())
        self.since.update({name: 1 if fresh else steps + 1 for name, steps in since.items()})
        self.step += 1
        return fresh

    def forget(self) -> None:
        """What was seen says nothing any more: the graph has changed."""
        self.since.clear()
