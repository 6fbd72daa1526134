"""Rules against opponents: figures of each task, and interquartile means over tasks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from meta_train.baselines import Sweep, Tuned, tuned
from meta_train.curves import Budget, smoothed
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import Task


@dataclass(frozen=True)
class Row:
    """What a contestant reached on a task. Figures are means over the problems.

    Args:
        task: name.
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
        diverged: number of runs that have diverged.
        steps: after which the training loss was first as low as the reference's is at the end;
            None if it never was.
        speed_up: how many times fewer steps than the reference's own; 0 if it never was as low.
    """

    task: str
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
    diverged: int
    steps: int | None
    speed_up: float


@dataclass(frozen=True)
class Summary:
    """Interquartile means over the tasks, of the figures of :class:`Row`.

    Args:
        contestant: name.
        relative_train: training loss.
        relative_test: test loss.
        accuracy: over the tasks that have one; None if none has.
        speed_up: against the reference.
        diverged: number of runs, in all.
    """

    contestant: str
    relative_train: float
    relative_test: float
    accuracy: float | None
    speed_up: float
    diverged: int


@dataclass(frozen=True)
class Comparison:
    """Figures of all contestants on all tasks.

    Args:
        reference: the contestant whose final loss is to be reached.
        budget: for how long they trained.
        criterion: by which settings were chosen.
        rows: task by task.
        summaries: of each contestant.
        curves: training losses, means over the problems, by task and contestant.
    """

    reference: str
    budget: Budget
    criterion: str
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    curves: dict[str, dict[str, list[float]]]


def compare(
    sweeps: Sequence[Sweep],
    tasks: Sequence[Task],
    budget: Budget,
    criterion: str = "train",
    folder: Path | None = None,
    told: Callable[[Row], None] = lambda row: None,
) -> Comparison:
    """Train the models of each task with the best setting of each sweep.

    Args:
        sweeps: the contestants; the first is the reference.
        tasks: what to train; their names differ.
        budget: for how long.
        criterion: how settings are chosen; see :func:`~meta_train.baselines.tuned`.
        folder: where results are kept, to be used again.
        told: hears of each row as soon as it is there.

    Raises:
        MetaTrainError: if there is nothing to compare, or names are not unique.
    """
    names = [sweep.name for sweep in sweeps]
    for kind, listed in (("contestant", names), ("task", [task.name for task in tasks])):
        if not listed or len(set(listed)) < len(listed):
            raise MetaTrainError(
                f"cannot compare {kind}s {listed}.\n  Give one or more, each once."
            )
    rows, curves = [], {}
    for task in tasks:
        found = {sweep.name: tuned(sweep, task, budget, criterion, folder) for sweep in sweeps}
        curves[task.name] = {name: best.curve.losses.mean(1) for name, best in found.items()}
        for row in _rows(task.name, found, curves[task.name], names[0]):
            rows.append(row)
            told(row)
    summaries = [_summary([row for row in rows if row.contestant == name]) for name in names]
    lists = {task: {n: c.tolist() for n, c in by.items()} for task, by in curves.items()}
    return Comparison(names[0], budget, criterion, tuple(rows), tuple(summaries), lists)


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
    task: str, found: dict[str, Tuned], curves: dict[str, Tensor], reference: str
) -> Iterator[Row]:
    goal = curves[reference]
    target = float(smoothed(goal)[-1])
    own = steps_to_reach(goal, target) or len(goal)
    for name, best in found.items():
        curve, steps = best.curve, steps_to_reach(curves[name], target)
        final, measured = curve.final, curve.measured
        accuracy = measured["test"].get("accuracy")
        yield Row(
            task=task,
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
            diverged=int(curve.diverged.sum()),
            steps=steps,
            speed_up=own / steps if steps else 0.0,
        )


def _summary(rows: Sequence[Row]) -> Summary:
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    return Summary(
        contestant=rows[0].contestant,
        relative_train=interquartile_mean([row.relative_train for row in rows]),
        relative_test=interquartile_mean([row.relative_test for row in rows]),
        accuracy=interquartile_mean(accuracies) if accuracies else None,
        speed_up=interquartile_mean([row.speed_up for row in rows]),
        diverged=sum(row.diverged for row in rows),
    )
