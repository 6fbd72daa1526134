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
        seen: by name of the parameter, the step at which it was.
    """

    step: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    @uncompiled
    def due(self, names: Iterable[str], every: int) -> bool:
        """Begin a step.

        Args:
            names: of the parameters that have a gradient.
            every: number of steps from one look at the whole model to the next.

        Returns:
            Whether the rule has to look now: at the first steps, where the last look at one of the
            parameters is as long ago as that, and where there was none.
        """
        step, names = self.step, list(names)
        fresh = step < FIRST or any(step - self.seen.get(name, -every) >= every for name in names)
        if fresh:
            self.seen.update(dict.fromkeys(names, step))
        self.step += 1
        return fresh

    def forget(self) -> None:
        """What was seen says nothing any more: the graph has changed."""
        self.seen.clear()
