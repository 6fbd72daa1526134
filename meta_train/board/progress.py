"""How meta-training goes on: meta-loss, meta-gradient, divergence and speed over outer steps."""

from statistics import fmean
from typing import Any

from meta_train.board.panel import Panel, due
from meta_train.board.tasks import family_name
from meta_train.trainer import MetaTrainer, Report

GROUP = "1 meta-training"
META_LOSS = f"{GROUP}/meta-loss"


class Progress(Panel):
    """Writes what is known of outer steps; of several at once their mean, or their sum.

    Args:
        writer: of the run.
        every: number of outer steps from point to point.
    """

    def __init__(self, writer: Any, every: int) -> None:
        super().__init__(writer)
        self._every = every
        self._reports: list[Report] = []

    def before(self, trainer: MetaTrainer) -> None:
        """Remember from where on speed is measured."""
        self._begin(trainer)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Write a point of each curve, when it is time."""
        self._reports.append(report)
        if due(report.step, self._every, trainer.config.steps):
            for name, value in self._numbers(trainer).items():
                self.writer.add_scalar(f"{GROUP}/{name}", value, report.step)
            self._begin(trainer)

    def _begin(self, trainer: MetaTrainer) -> None:
        self._reports = []
        self._inner_steps, self._seconds = trainer.inner_steps, trainer.seconds

    def _numbers(self, trainer: MetaTrainer) -> dict[str, float]:
        """By names whose alphabetical order, which TensorBoard shows them in, is of importance."""
        reports = self._reports
        speed = (trainer.inner_steps - self._inner_steps) / (trainer.seconds - self._seconds)
        return {
            "meta-loss": fmean(report.meta_loss for report in reports),
            **(self._by_family() if len(trainer.config.families) > 1 else {}),
            "norm of meta-gradient": fmean(report.norm for report in reports),
            "outer lr": reports[-1].rate,
            "runs diverged": sum(report.diverged for report in reports),
            "runs diverged, total": trainer.diverged,
            "speed, inner steps per s": speed,
            "total inner steps": trainer.inner_steps,
        }

    def _by_family(self) -> dict[str, float]:
        losses: dict[str, list[float]] = {}
        for report in self._reports:
            for task, loss in report.by_task.items():
                losses.setdefault(family_name(task), []).append(loss)
        return {f"meta-loss, {family}": fmean(values) for family, values in losses.items()}
