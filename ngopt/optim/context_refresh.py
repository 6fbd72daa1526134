"""When the optimizer has the graph context recomputed, and when the rule uses the cached one."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ngopt.backends.dispatch import uncompiled
from ngopt.rules.refresh_schedule import FIRST, interval


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
            every: as for :func:`.interval`.

        Returns:
            Whether to recompute the context: at the first steps, and when a parameter has made
            :func:`.interval` steps since the last refresh. A new parameter restarts the first
            steps.
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
