"""When a rule recomputes its graph context, and when it uses the cached one."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ngopt.backends.dispatch import uncompiled

FIRST = 10
"""Number of first steps. Much changes in them, so the context is recomputed at each."""

STEADY = 16
"""Number of refreshes after the first steps until the interval between refreshes doubles."""

LONGEST = 8
"""Largest factor by which the interval grows: late in training, a step changes little."""


def interval(step: int, every: int) -> int:
    """Number of steps between refreshes of the context, after the first steps.

    It doubles after `STEADY * every` steps, and again each time that their number has doubled.

    Args:
        step: counted from 0.
        every: number of steps between refreshes in the beginning; 1 to refresh at each step.

    >>> [interval(step, 8) for step in (10, 137, 138, 265, 266, 522, 5000)]
    [8, 8, 16, 16, 32, 64, 64]
    """
    times = 1
    while every > 1 and times < LONGEST and step + 1 - FIRST > STEADY * every * times:
        times *= 2
    return every * times


def is_refresh_step(step: int, every: int) -> bool:
    """Whether a rule recomputes its graph context at a step.

    Args:
        step: counted from 0.
        every: as for :func:`interval`.

    >>> [step for step in range(20) if not is_refresh_step(step, 4)]
    [10, 11, 12, 14, 15, 16, 18, 19]
    """
    return step < FIRST or (step + 1 - FIRST) % interval(step, every) == 0


@dataclass
class ContextRefresh:
    """Decides when the graph context is recomputed, from the steps of each parameter.

    Args:
        step: number of steps since the last time that a parameter was new.
        since: by name of the parameter, the number of its steps since the last refresh. Only steps
            in which it had a gradient count.
    """

    step: int = 0
    since: dict[str, int] = field(default_factory=dict)

    @uncompiled
    def begin_step(self, names: Iterable[str], every: int) -> bool:
        """Begin a step.

        Args:
            names: of the parameters that have a gradient.
            every: as for :func:`interval`.

        Returns:
            Whether to recompute the context: at the first steps, and when a parameter has made
            :func:`interval` steps since the last refresh. A new parameter restarts the first steps.
        """
        names = list(names)
        if any(name not in self.since for name in names):
            self.step = 0
        most = interval(self.step, every)
        since = {name: self.since.get(name, most) for name in names}
        refresh = self.step < FIRST or any(steps >= most for steps in since.values())
        self.since.update({name: 1 if refresh else steps + 1 for name, steps in since.items()})
        self.step += 1
        return refresh

    def forget(self) -> None:
        """Refresh at the next step: the cached context is out of date."""
        self.since.clear()
