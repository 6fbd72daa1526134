"""What theta is worth by now: inner runs with it, beside those of tuned opponents."""

import math
from collections.abc import Mapping
from functools import cached_property
from statistics import fmean
from typing import Any

import torch

from meta_train.baselines import Tuned, opponent, tuned
from meta_train.board.cards import (
    BY_FAMILY,
    LOSS,
    LOSS_RATIO,
    PROGRESS,
    SPEED,
    SPEED_UP,
    add_scalar,
    inner_group,
    over,
    speed_up_group,
)
from meta_train.board.diagnostics import diagnose
from meta_train.board.panel import Panel, due, open_writer
from meta_train.checkpoint import undisturbed
from meta_train.comparison import steps_to_reach
from meta_train.config import Config
from meta_train.curves import Budget, Curve, Setting, curves, smoothed
from meta_train.tasks.task import Task
from meta_train.trainer import MetaTrainer, Report

CURVES = "curves"
"""Folder, within that of the run, of the runs whose curves TensorBoard lays over each other."""

SMALLEST = 1e-12
"""Losses below this are taken for this before their logarithm."""


def run_name(config: Config) -> str:
    """What TensorBoard calls a run: its rule and its folder, whatever `--logdir` is."""
    return f"{config.rule.partition(':')[0]} ({config.folder.name})"


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
                label: curves(
                    trainer.rule,
                    task,
                    [self._setting],
                    self._budget,
                    f"evaluation after outer step {trainer.step_number}, {label}",
                )[0]
                for label, task in self._tasks.items()
            }
            self._compare(ours, trainer.step_number)
            if self._is_shown(trainer.step_number):
                self._show(trainer, ours)

    def _compare(self, ours: Mapping[str, Curve], step: int) -> None:
        for name, theirs in self._opponents.items():
            ratios, speeds = {}, {}
            for task, curve in ours.items():
                best = theirs[task].curve
                ratios[task] = float(curve.final.mean() / best.final.mean())
                speeds[task] = speed_up(curve, best)
            mean = math.exp(fmean(map(math.log, ratios.values())))
            for what, values, all_tasks, description in (
                (SPEED, speeds, fmean(speeds.values()), SPEED_UP),
                (LOSS, ratios, mean, LOSS_RATIO),
            ):
                known = {"": all_tasks, **values}
                for task, tag in _tags(name, what, list(ours)).items():
                    add_scalar(self.writer, tag, known[task], step, description)

    def _is_shown(self, step: int) -> bool:
        evaluations, rest = divmod(step, self._config.board.every)
        doubled = rest == 0 and evaluations & (evaluations - 1) == 0
        return doubled or step == self._config.steps

    def _show(self, trainer: MetaTrainer, ours: Mapping[str, Curve]) -> None:
        step, first = trainer.step_number, next(iter(self._tasks.values()))
        budget = self._budget
        name = f"after {step:05} outer steps"
        with open_writer(self._config.folder / CURVES / name, 0) as writer:
            _write_curves(writer, ours)
            for found in diagnose(trainer.rule, first, self._setting, budget.steps, budget.seed):
                for tag, value in found.numbers.items():
                    add_scalar(writer, tag, value, found.step)
        for tag, picture in found.images().items():
            self.writer.add_image(tag, picture, step)

    def _draw_lines_at_1(self, writer: Any, name: str, tasks: list[str]) -> None:
        """Lay a line over the cards of ratios: it is where the opponent itself is."""
        for what in (SPEED, LOSS):
            for tag in _tags(name, what, tasks).values():
                for step in (0, self._config.steps):
                    add_scalar(writer, tag, 1.0, step)

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
                self._draw_lines_at_1(writer, name, list(best))
                writer.add_text("settings", _settings(best), 0)
        return found


def speed_up(ours: Curve, theirs: Curve) -> float:
    """How many times fewer steps until the other's final loss; 0 if it is never reached."""
    own, other = ours.losses.mean(1), theirs.losses.mean(1)
    target = float(smoothed(other)[-1])
    steps = steps_to_reach(own, target)
    return (steps_to_reach(other, target) or len(other)) / steps if steps else 0.0


def _tags(opponent: str, what: str, tasks: list[str]) -> dict[str, str]:
    """Tags of a comparison on all tasks, under "", and, if there are several, on each."""
    group = BY_FAMILY if what == LOSS else speed_up_group(len(tasks))
    several = tasks if len(tasks) > 1 else []
    each = {task: f"{group}/{over(opponent, what, task)}" for task in several}
    return {"": f"{PROGRESS}/{over(opponent, what)}"} | each


def _write_curves(writer: Any, found: Mapping[str, Curve]) -> None:
    """Write mean losses over inner steps, from that of the untrained models on, as log10."""
    for place, (task, curve) in enumerate(found.items()):
        losses = torch.stack([curve.untrained.mean(), *curve.losses.mean(1)])
        for step, loss in enumerate(losses.clamp(min=SMALLEST).log10()):
            add_scalar(writer, f"{inner_group(place)}/{task}", float(loss), step)


def _settings(best: Mapping[str, Tuned]) -> str:
    rows = [
        f"| {task} | {one.setting} | {float(one.curve.final.mean()):.4g} "
        f"| {'yes' if one.at_edge else 'no'} |"
        for task, one in best.items()
    ]
    head = ["| task | best setting | final loss | at the edge |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])
