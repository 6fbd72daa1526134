"""What everything on the board has in common."""

from pathlib import Path
from typing import Any

from meta_train.trainer import MetaTrainer, Report


class Panel:
    """One thing that the board shows. By default it shows nothing.

    Args:
        writer: of the run, a `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def before(self, trainer: MetaTrainer) -> None:
        """Look at a run before the first outer step of this process."""

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Look at a run after an outer step."""


def open_writer(folder: Path, first_step: int) -> Any:
    """Open a folder of curves; what it holds of `first_step` and later steps is taken back.

    Raises:
        ImportError: if tensorboard is not installed.
    """
    from torch.utils.tensorboard import SummaryWriter  # takes a while

    # A killed run keeps all but what it wrote in the last seconds.
    return SummaryWriter(str(folder), purge_step=first_step, flush_secs=10)


def due(step: int, every: int, steps: int) -> bool:
    """Whether something that is shown `every` so many steps is shown now, or at the end.

    >>> [step for step in range(8) if due(step, 3, 7)], [s for s in range(8) if due(s, 0, 7)]
    ([0, 3, 6, 7], [])
    """
    return every > 0 and (step % every == 0 or step == steps)
