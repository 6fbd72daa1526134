"""The board of a run of meta-training."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meta_train.board.cards import LOSS, META_LOSS, PROGRESS, SPEED, over
from meta_train.board.evaluation import Evaluation, run_name
from meta_train.board.panel import Panel, open_writer
from meta_train.board.progress import Progress
from meta_train.board.run_info import RunInfo
from meta_train.board.tasks import Graphs, board_tasks
from meta_train.board.theta import Theta
from meta_train.config import Config
from meta_train.trainer import MetaTrainer, Report


class Board:
    """Shows a run.

    Args:
        panels: what to show; nothing by default.
        writer: that they write to.
    """

    def __init__(self, panels: Sequence[Panel] = (), writer: Any = None) -> None:
        self._panels, self._writer = panels, writer

    def before(self, trainer: MetaTrainer) -> None:
        """Look at a run before the first outer step of this process."""
        for panel in self._panels:
            panel.before(trainer)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Look at a run after an outer step."""
        for panel in self._panels:
            panel.after(trainer, report)
        # What leads up to a checkpoint must not be lost with what comes after it.
        if self._writer is not None and report.step % trainer.config.checkpoint_every == 0:
            self._writer.flush()


@contextmanager
def open_board(trainer: MetaTrainer) -> Iterator[Board]:
    """Open the board of a run, in the folder of the run; an empty one except on the main process.

    What an earlier process wrote of outer steps that are yet to come is taken back. Theta is the
    same, to the last bit, with and without a board.

    Args:
        trainer: of the run, resumed if it is to be.
    """
    writer = _writer(trainer) if trainer.world.is_main else None
    if writer is None:
        yield Board()
        return
    with writer:
        yield Board(_panels(trainer, writer), writer)


def _writer(trainer: MetaTrainer) -> Any:
    step = trainer.step_number
    try:
        # What was written before the first outer step, as step 0, stays when step 1 is next.
        return open_writer(board_folder(trainer.config), step + 1 if step else 0)
    except ImportError:
        warnings.warn(
            "there will be no curves of this run, since tensorboard is not installed.\n"
            "  Install it with: pip install tensorboard",
            stacklevel=2,
        )
        return None


def board_folder(config: Config) -> Path:
    """Folder of the main curves of a run, whose name is what TensorBoard shows."""
    return config.folder / run_name(config)


def _panels(trainer: MetaTrainer, writer: Any) -> list[Panel]:
    config = trainer.config
    tasks = board_tasks(config, trainer.world.device)
    evaluated = config.board.every > 0 and config.backend == "stacked"
    opponents = config.board.opponents if evaluated else ()
    ratios = [f"{PROGRESS}/{over(name, what)}" for name in opponents for what in (SPEED, LOSS)]
    return [
        RunInfo(writer, [*ratios, META_LOSS], opponents),
        Graphs(writer, tasks),
        Progress(writer, config),
        *([Evaluation(writer, config, tasks)] if evaluated else []),
        Theta(writer, config.board.histograms),
    ]
