"""Histograms of theta."""

from typing import Any

from torch import Tensor

from meta_train.board.cards import THETA, THETA_CHANGE
from meta_train.board.panel import Panel, due
from meta_train.rules import rule_of
from meta_train.trainer import MetaTrainer, Report


class Theta(Panel):
    """Writes histograms of each weight of theta, and of how it has changed since the start.

    Args:
        writer: of the run.
        every: number of outer steps from one histogram to the next; 0 for none.
    """

    def __init__(self, writer: Any, every: int) -> None:
        super().__init__(writer)
        self._every = every
        self._start: dict[str, Tensor] = {}

    def before(self, trainer: MetaTrainer) -> None:
        """Write theta at the start."""
        if not self._every:
            return
        start = rule_of(trainer.config.rule).named_parameters()
        self._start = {name: weight.detach() for name, weight in start}
        if trainer.step_number == 0:
            self._write(trainer)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Write theta, when it is time."""
        if due(report.step, self._every, trainer.config.steps):
            self._write(trainer)

    def _write(self, trainer: MetaTrainer) -> None:
        for name, weight in trainer.outer.theta.items():
            values = weight.detach().cpu()
            self.writer.add_histogram(f"{THETA}/{name}", values, trainer.step_number)
            if trainer.step_number:
                change = values - self._start[name]
                self.writer.add_histogram(f"{THETA_CHANGE}/{name}", change, trainer.step_number)
