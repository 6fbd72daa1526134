"""How meta-training goes on: meta-loss, meta-gradient, divergence and speed over outer steps."""

import math
from collections import deque
from statistics import fmean
from typing import Any

from meta_train.board.cards import BY_FAMILY, META_LOSS, OUTER, SMOOTHED, add_scalar
from meta_train.board.panel import Panel, due
from meta_train.board.tasks import family_name
from meta_train.config import Config
from meta_train.trainer import MetaTrainer, Report


class Progress(Panel):
    """Writes what is known of outer steps; of several at once their mean, or their sum.

    Meta-losses are means over all outer steps in which each inner run begins anew about once: in
    between, they rise and fall with the ages of the runs. After a resume the mean begins anew.

    Args:
        writer: of the run.
        config: of the run.
    """

    def __init__(self, writer: Any, config: Config) -> None:
        super().__init__(writer)
        self._every, self._families = config.board.scalars, len(config.families)
        self._reports: list[Report] = []
        self._recent: deque[Report] = deque(maxlen=window(config))

    def before(self, trainer: MetaTrainer) -> None:
        """Remember from where on speed is measured."""
        self._begin(trainer)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Write a point of each curve, when it is time."""
        self._reports.append(report)
        self._recent.append(report)
        if due(report.step, self._every, trainer.config.steps):
            for name, value in self._numbers(trainer).items():
                add_scalar(self.writer, f"{OUTER}/{name}", value, report.step)
            for tag, value in self._meta_losses().items():
                add_scalar(self.writer, tag, value, report.step, SMOOTHED)
            self._begin(trainer)

    def _begin(self, trainer: MetaTrainer) -> None:
        self._reports = []
        self._inner_steps, self._seconds = trainer.inner_steps, trainer.seconds

    def _numbers(self, trainer: MetaTrainer) -> dict[str, float]:
        """By names whose alphabetical order, which TensorBoard shows them in, is of importance."""
        reports = self._reports
        speed = (trainer.inner_steps - self._inner_steps) / (trainer.seconds - self._seconds)
        return {
            "meta-loss, not smoothed": fmean(report.meta_loss for report in reports),
            "norm of meta-gradient": fmean(report.norm for report in reports),
            "outer lr": reports[-1].rate,
            "runs diverged": sum(report.diverged for report in reports),
            "runs diverged, total": trainer.diverged,
            "speed, inner steps per s": speed,
            "total inner steps": trainer.inner_steps,
        }

    def _meta_losses(self) -> dict[str, float]:
        """Smoothed meta-loss of all tasks and, if there are several, of each family."""
        losses: dict[str, list[float]] = {}
        for report in self._recent:
            for task, loss in report.by_task.items():
                losses.setdefault(family_name(task), []).append(loss)
        several = losses.items() if self._families > 1 else ()
        return {
            META_LOSS: fmean(report.meta_loss for report in self._recent),
            **{f"{BY_FAMILY}/meta-loss, {family}": fmean(values) for family, values in several},
        }


def window(config: Config) -> int:
    """Number of outer steps in which each inner run begins anew about once.

    >>> window(Config(truncation=30))  # lengths up to 1000
    34
    """
    waits = config.stacks // (config.active or config.stacks)
    return math.ceil(config.lengths.longest / config.truncation) * waits
