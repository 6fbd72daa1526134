"""Rules against opponents: figures of each task, and interquartile means over those of a suite."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from meta_train.baselines import Sweep, Tuned, tuned
from meta_train.curves import Budget, Curve, smoothed
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import Task

WORSE = 1.02
"""A contestant is worse than the reference if its final loss is above this multiple of it."""

OPTIONAL = ("accuracy", "steps")
"""Figures of a row that may be missing; others that are null in a file are not finite."""

STALLED = 0.9
"""A run that does not get below this multiple of an early loss has stalled."""


@dataclass(frozen=True)
class Trial:
    """What contestants are compared on.

    Args:
        task: what to train.
        budget: for how long, and on how many problems.
        suite: the suite of tasks it belongs to; empty if none.
    """

    task: Task
    budget: Budget
    suite: str = ""

    @property
    def name(self) -> str:
        """Suite and task."""
        return labelled(self.suite, self.task.name)


def labelled(suite: str, text: str) -> str:
    """A text after the name of its suite, if it has one."""
    return f"{suite}: {text}" if suite else text


OLD_NAMES = {"ring": "suite"}
"""Names in files of earlier versions, and what they are called now."""


@dataclass(frozen=True)
class Row:
    """What a contestant reached on a task. Figures are means over the problems.

    Args:
        suite: the suite of the task; empty if none.
        task: name.
        budget: for how long it trained, and on how many problems.
        contestant: name.
        setting: the best of those tried.
        at_edge: whether that has the smallest or largest learning rate tried.
        train: training loss in the last tenth of the steps.
        error: standard error of `train` over the problems; NaN for a single one.
        relative_train: the same in units of the untrained model's.
        held_out: loss on held-out data, on which settings may have been chosen.
        test: loss on test data.
        relative_test: the same in units of the untrained model's.
        accuracy: on test data; None where there is none, and NaN if a run has diverged.
        worse: whether `train` is above the reference's by more than 2 %.
        stalled: number of runs that have stalled; see :func:`stalled`.
        diverged: number of runs that have diverged.
        steps: after which the training loss was first as low as the reference's is at the end;
            None if it never was.
        speed_up: how many times fewer steps than the reference's own; 0 if it never was as low.
    """

    suite: str
    task: str
    budget: Budget
    contestant: str
    setting: str
    at_edge: bool
    train: float
    error: float
    relative_train: float
    held_out: float
    test: float
    relative_test: float
    accuracy: float | None
    worse: bool
    stalled: int
    diverged: int
    steps: int | None
    speed_up: float

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Row":
        """Make a row of its entry in a JSON file, where figures that are not finite are null."""
        figures: dict[str, Any] = {
            name: math.nan if value is None and name not in OPTIONAL else value
            for name, value in renamed(plain).items()
        }
        return cls(**{**figures, "budget": Budget(**figures["budget"])})


def renamed(plain: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a file under the names of today; see :data:`OLD_NAMES`."""
    return {OLD_NAMES.get(name, name): value for name, value in plain.items()}


@dataclass(frozen=True)
class Summary:
    """A contestant on the tasks of a suite: interquartile means of figures of :class:`Row`, counts.

    Args:
        suite: name; empty for tasks of none.
        contestant: name.
        tasks: how many.
        relative_train: training loss.
        relative_test: test loss.
        accuracy: over the tasks that have one; None if none has.
        speed_up: against the reference.
        worse: number of tasks on which it is worse than the reference.
        stalled: number of runs, in all.
        diverged: number of runs, in all.
    """

    suite: str
    contestant: str
    tasks: int
    relative_train: float
    relative_test: float
    accuracy: float | None
    speed_up: float
    worse: int
    stalled: int
    diverged: int


@dataclass(frozen=True)
class Comparison:
    """Figures of all contestants on the tasks that are done.

    Args:
        reference: the contestant whose final loss is to be reached.
        criterion: by which settings were chosen.
        planned: number of tasks when all are done.
        rows: task by task.
        summaries: of each contestant on each suite.
        curves: training losses, means over the problems, by task (with its suite) and contestant.
    """

    reference: str
    criterion: str
    planned: int
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    curves: dict[str, dict[str, list[float]]]


def compare(
    sweeps: Sequence[Sweep],
    trials: Sequence[Trial],
    criterion: str = "train",
    folder: Path | None = None,
    screen: int = 0,
) -> Iterator[Comparison]:
    """Train the models of each task with the best setting of each sweep.

    Args:
        sweeps: the contestants; the first is the reference.
        trials: what to train, and for how long; names differ within a suite.
        criterion: how settings are chosen; see :func:`~meta_train.baselines.tuned`.
        folder: where results are kept, to be used again.
        screen: number of problems to screen settings on.

    Yields:
        After each task, the comparison as far as it is.

    Raises:
        MetaTrainError: if there is nothing to compare, or names are not unique.
    """
    names = [sweep.name for sweep in sweeps]
    for kind, listed in (("contestant", names), ("task", [trial.name for trial in trials])):
        if not listed or len(set(listed)) < len(listed):
            raise MetaTrainError(
                f"cannot compare {kind}s {listed}.\n  Give one or more, each once."
            )
    rows: list[Row] = []
    curves: dict[str, dict[str, list[float]]] = {}
    # The bar is left out for a single task, where it would say nothing.
    bar = tqdm(trials, desc="tasks", unit="task", disable=len(trials) == 1, dynamic_ncols=True)
    for trial in bar:
        found = {
            sweep.name: tuned(sweep, trial.task, trial.budget, criterion, folder, screen)
            for sweep in sweeps
        }
        means = {name: best.curve.losses.mean(1) for name, best in found.items()}
        rows += _rows(trial, found, means, names[0])
        curves[trial.name] = {name: mean.tolist() for name, mean in means.items()}
        yield Comparison(
            names[0], criterion, len(trials), tuple(rows), summaries(rows), dict(curves)
        )


def summaries(rows: Sequence[Row]) -> tuple[Summary, ...]:
    """Summary of each contestant on each suite, in the order of the rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.suite, row.contestant), []).append(row)
    in_suites = sorted(groups, key=lambda key: [suite for suite, _ in groups].index(key[0]))
    return tuple(_summary(groups[key]) for key in in_suites)


def stalled(curve: Curve, reference: Curve) -> Tensor:
    """Which runs stand still although there is more to learn, (problems,).

    Such a run has not diverged, but its loss in the last tenth of the steps is above 0.9 times
    that in the second tenth, while the reference's loss in the last tenth of the same problem is
    below 0.9 times that loss. So a run that has learned quickly all there is has not stalled.

    Args:
        curve: of a contestant.
        reference: of another, on the same problems.
    """
    tenth = max(1, len(curve.losses) // 10)
    early = curve.losses[tenth : 2 * tenth].double().mean(0)
    stands = (curve.final > STALLED * early) & ~curve.diverged
    return stands & (reference.final < STALLED * curve.final)


def steps_to_reach(losses: Tensor, target: float) -> int | None:
    """Number of steps after which a curve, averaged over a tenth of them, is at a target.

    Args:
        losses: after each step, (steps,).
        target: the loss to reach.

    Returns:
        The number of steps, or None if the curve stays above.
    """
    there = (smoothed(losses) <= target).nonzero()
    return int(there[0]) + 1 if len(there) else None


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half, NaN if a value is; of fewer than four values, of all of them.

    >>> interquartile_mean([1, 2, 4, 100])
    3.0
    """
    cut = len(values) // 4
    if any(math.isnan(value) for value in values):
        return math.nan
    middle = sorted(values)[cut : len(values) - cut]
    return sum(middle) / len(middle)


def _rows(
    trial: Trial, found: dict[str, Tuned], curves: dict[str, Tensor], reference: str
) -> Iterator[Row]:
    best_known = found[reference].curve
    target = float(smoothed(curves[reference])[-1])
    own = steps_to_reach(curves[reference], target) or trial.budget.steps
    for name, best in found.items():
        curve, steps = best.curve, steps_to_reach(curves[name], target)
        final, measured = curve.final, curve.measured
        accuracy = measured["test"].get("accuracy")
        yield Row(
            suite=trial.suite,
            task=trial.task.name,
            budget=trial.budget,
            contestant=name,
            setting=str(best.setting),
            at_edge=best.at_edge,
            train=float(final.mean()),
            error=float(final.std() / math.sqrt(len(final))) if len(final) > 1 else math.nan,
            relative_train=float((final / curve.untrained).mean()),
            held_out=float(measured["held_out"]["loss"].mean()),
            test=float(measured["test"]["loss"].mean()),
            relative_test=float((measured["test"]["loss"] / curve.untrained).mean()),
            accuracy=None if accuracy is None else float(accuracy.mean()),
            worse=float(final.mean()) > WORSE * target,
            stalled=int(stalled(curve, best_known).sum()),
            diverged=int(curve.diverged.sum()),
            steps=steps,
            speed_up=own / steps if steps else 0.0,
        )


def _summary(rows: Sequence[Row]) -> Summary:
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    return Summary(
        suite=rows[0].suite,
        contestant=rows[0].contestant,
        tasks=len(rows),
        relative_train=interquartile_mean([row.relative_train for row in rows]),
        relative_test=interquartile_mean([row.relative_test for row in rows]),
        accuracy=interquartile_mean(accuracies) if accuracies else None,
        speed_up=interquartile_mean([row.speed_up for row in rows]),
        worse=sum(row.worse for row in rows),
        stalled=sum(row.stalled for row in rows),
        diverged=sum(row.diverged for row in rows),
    )
