"""When a rule looks at the whole model, if it does not do so at every step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ngopt.optim.uncompiled import uncompiled

FIRST = 10
"""Number of first steps, in which much changes: a rule looks at the whole model at each of them."""


def refreshes(step: int, every: int) -> bool:
    """Whether a rule looks at the whole model at a step.

    Args:
        step: counted from 0.
        every: number of steps from one look to the next.

    >>> [step for step in range(20) if not refreshes(step, 4)]
    [10, 11, 12, 14, 15, 16, 18, 19]
    """
    return step < FIRST or (step + 1 - FIRST) % every == 0


@dataclass
class Refreshing:
    """Keeps account of when each parameter was last seen as a part of the whole model.

    Args:
        step: number of steps so far.
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
            every: number of steps from one look at the whole model to the next.

        Returns:
            Whether the rule has to look now: at the first steps, where one of the parameters has
            made that many steps since it was last looked at, and where it never was.
        """
        since = {name: self.since.get(name, every) for name in names}
        fresh = self.step < FIRST or any(steps >= every for steps in since.values())
        self.since.update({name: 1 if fresh else steps + 1 for name, steps in since.items()})
        self.step += 1
        return fresh

    def forget(self) -> None:
        """What was seen says nothing any more: the graph has changed."""
        self.since.clear()
