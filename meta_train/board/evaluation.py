"""What theta is worth by now: inner runs with it, beside those of tuned opponents."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from meta_train.baselines import Tuned, opponent, tuned
from meta_train.board.diagnostics import diagnose
from meta_train.board.panel import Panel, due, open_writer
from meta_train.checkpoint import undisturbed
from meta_train.config import Config
from meta_train.curves import Budget, Curve, Setting, curves
from meta_train.tasks.task import Task
from meta_train.trainer import MetaTrainer, Report

CURVES = "curves"
"""Folder, within that of the run, of the runs whose curves TensorBoard lays over each other."""

LOSS = "2 inner loss"


def relative(name: str) -> str:
    """Group of the curves of final losses relative to an opponent's."""
    return f"3 ours vs {name}"


class Evaluation(Panel):
    """Trains models with theta as it is now.

    Inner curves are written to a folder for each opponent and one for each theta. So that these
    do not become many, a theta's curves are shown after 0, 1, 2, 4, 8, ... times `every` outer
    steps and at the end; final losses relative to those of opponents after each evaluation.

    Args:
        writer: of the run.
        config: of the run.
        tasks: to train on, by their short names.
    """

    def __init__(self, writer: Any, config: Config, tasks: dict[str, Task]) -> None:
        super().__init__(writer)
        self._config, self._tasks = config, tasks
        self._setting = Setting(config.unroll.lr, weight_decay=config.unroll.weight_decay)
        self._budget = Budget(config.board.inner_steps, config.board.problems, batches=1)

    def before(self, trainer: MetaTrainer) -> None:
        """Evaluate the first theta."""
        if trainer.step_number == 0:
            self._evaluate(trainer)

    def after(self, trainer: MetaTrainer, report: Report) -> None:
        """Evaluate, when it is time."""
        if due(report.step, self._config.board.every, self._config.steps):
            self._evaluate(trainer)

    def _evaluate(self, trainer: MetaTrainer) -> None:
        with undisturbed():
            ours = {
                label: curves(trainer.rule, task, [self._setting], self._budget)[0]
                for label, task in self._tasks.items()
            }
            self._compare(ours, trainer.step_number)
            if self._is_shown(trainer.step_number):
                self._show(trainer, ours)

    def _compare(self, ours: Mapping[str, Curve], step: int) -> None:
        for name, theirs in self._opponents.items():
            ratios = {
                task: curve.final.mean() / theirs[task].curve.final.mean()
                for task, curve in ours.items()
            }
            mean = torch.stack(list(ratios.values())).log().mean().exp()
            for task, ratio in {**ratios, "all tasks": mean}.items():
                self.writer.add_scalar(f"{relative(name)}/{task}", float(ratio), step)

    def _is_shown(self, step: int) -> bool:
        evaluations, rest = divmod(step, self._config.board.every)
        doubled = rest == 0 and evaluations & (evaluations - 1) == 0
        return doubled or step == self._config.steps

    def _show(self, trainer: MetaTrainer, ours: Mapping[str, Curve]) -> None:
        step, first = trainer.step_number, next(iter(self._tasks.values()))
        budget = self._budget
        with open_writer(self._config.folder / CURVES / f"ours, outer step {step:05}", 0) as writer:
            _write_curves(writer, ours)
            for found in diagnose(trainer.rule, first, self._setting, budget.steps, budget.seed):
                for tag, value in found.numbers.items():
                    writer.add_scalar(tag, value, found.step)
        for tag, picture in found.images().items():
            self.writer.add_image(tag, picture, step)

    @cached_property
    def _opponents(self) -> dict[str, dict[str, Tuned]]:
        """The best of each opponent on each task, with its curves written."""
        folder, found = self._config.folder / "opponents", {}
        for name in self._config.board.opponents:
            sweep = opponent(name)
            best = {
                label: tuned(sweep, task, self._budget, folder=folder)
                for label, task in self._tasks.items()
            }
            found[name] = best
            with open_writer(self._config.folder / CURVES / f"{name}, tuned", 0) as writer:
                _write_curves(writer, {task: one.curve for task, one in best.items()})
                writer.add_text("settings", _settings(best), 0)
        return found


def _write_curves(writer: Any, found: Mapping[str, Curve]) -> None:
    """Write mean losses over inner steps, from that of the untrained models on."""
    for task, curve in found.items():
        losses = [curve.untrained.mean(), *curve.losses.mean(1)]
        for step, loss in enumerate(losses):
            writer.add_scalar(f"{LOSS}/{task}", float(loss), step)


def _settings(best: Mapping[str, Tuned]) -> str:
    rows = [
        f"| {task} | {one.setting} | {float(one.curve.final.mean()):.4g} "
        f"| {'yes' if one.at_edge else 'no'} |"
        for task, one in best.items()
    ]
    head = ["| task | best setting | final loss | at the edge |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])
