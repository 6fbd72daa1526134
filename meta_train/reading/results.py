"""What networks that read networks reached, and how sure it is which is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from meta_train.reading.scores import Interval, Resamples, Score


@dataclass(frozen=True)
class Fitted:
    """What came of a training run.

    Args:
        step: after which the best state was reached.
        score: of that state on the validation split.
        history: of each evaluation: step, epoch, loss, and the scores of both splits.
        seconds: of training, evaluations not counted.
        rate: networks per second of training.
        skipped: number of steps whose gradient was not finite, which changed nothing.
    """

    step: int
    score: float
    history: list[dict[str, Any]]
    seconds: float
    rate: float
    skipped: int


@dataclass(frozen=True)
class Result:
    """One run of one reader, or a baseline that reads nothing.

    Args:
        reader: its name.
        seed: of the run.
        predicted: classes or numbers by split, in the order of the split.
        history: of each evaluation; see :class:`Fitted`.
        step: after which the state was reached that is best on the validation split.
        weights: number of weights; 0 of a baseline.
        seconds: of training.
        rate: networks per second of training.
        baseline: whether it is a baseline.
    """

    reader: str
    seed: int
    predicted: dict[str, list[float]]
    history: list[dict[str, Any]]
    step: int = 0
    weights: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    baseline: bool = False


def first_of_each(results: Sequence[Result]) -> list[Result]:
    """Return the first result of each reader, in order."""
    found: dict[str, Result] = {}
    for result in results:
        found.setdefault(result.reader, result)
    return list(found.values())


@dataclass(frozen=True)
class Row:
    """A reader, over its seeds.

    Args:
        reader: its name.
        seeds: of its runs.
        validation: mean score on the validation split, by the name of the score.
        test: mean score on the test split, with the interval over resampled runs.
        spread: standard deviation of the test score over seeds; None of a single one.
        weights: number of weights.
        seconds: of training, mean.
        rate: networks per second of training, mean.
        baseline: whether it reads no weights at all.
    """

    reader: str
    seeds: tuple[int, ...]
    validation: dict[str, float]
    test: dict[str, Interval]
    spread: dict[str, float | None]
    weights: int
    seconds: float
    rate: float
    baseline: bool


@dataclass(frozen=True)
class Difference:
    """Test score of a reader minus that of another, on the same resamples of the runs."""

    reader: str
    other: str
    score: str
    interval: Interval

    @property
    def sure(self) -> bool:
        """Whether 0 is outside the interval."""
        return not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True)
class Table:
    """All readers, and the differences of each from those before it."""

    scores: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of the networks of a split, and which run each is of.

    Args:
        values: `(snapshots,)`.
        runs: any integers, `(snapshots,)`.
    """

    values: Tensor
    runs: Tensor


def table(
    results: Sequence[Result],
    scores: Sequence[Score],
    validation: Truth,
    test: Truth,
    resamples: int,
) -> Table:
    """Compare readers on the test split.

    Runs are resampled, not snapshots, and all readers are measured on the same resamples: their
    difference is that of readers, not of networks that happen to be in the test split.

    Args:
        results: of all runs; those of one reader count as one.
        scores: the first is what differences are shown of.
        validation: what is true there.
        test: what is true there.
        resamples: how many.
    """
    drawn = Resamples.drawn(test.runs.cpu(), resamples)
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.reader, []).append(result)
    rows, found = [], {}
    for reader, group in groups.items():
        sampled = {score.name: _resampled(score, group, test, drawn) for score in scores}
        rows.append(_row(reader, group, scores, validation, test, sampled))
        found[reader] = sampled[scores[0].name]
    name = scores[0].name
    differences = tuple(
        Difference(
            after.reader,
            before.reader,
            name,
            Interval.of(
                after.test[name].value - before.test[name].value,
                found[after.reader] - found[before.reader],
            ),
        )
        for before, after in combinations(rows, 2)
    )
    return Table(tuple(score.name for score in scores), tuple(rows), differences)


def _resampled(score: Score, group: Sequence[Result], test: Truth, drawn: Resamples) -> Tensor:
    """Mean over the seeds, `(resamples,)`."""
    values = test.values.cpu()
    each = [
        score.measure(torch.tensor(result.predicted["test"]).to(values), values, drawn)
        for result in group
    ]
    return torch.stack(each).mean(0)


def _row(
    reader: str,
    group: Sequence[Result],
    scores: Sequence[Score],
    validation: Truth,
    test: Truth,
    sampled: dict[str, Tensor],
) -> Row:
    def each(score: Score, split: str, truth: Truth) -> list[float]:
        values = truth.values.cpu()
        return [score.of(torch.tensor(r.predicted[split]).to(values), values) for r in group]

    on_test = {score.name: each(score, "test", test) for score in scores}
    return Row(
        reader,
        tuple(result.seed for result in group),
        {score.name: fmean(each(score, "validation", validation)) for score in scores},
        {name: Interval.of(fmean(found), sampled[name]) for name, found in on_test.items()},
        {name: stdev(found) if len(found) > 1 else None for name, found in on_test.items()},
        group[0].weights,
        fmean(result.seconds for result in group),
        fmean(result.rate for result in group),
        group[0].baseline,
    )
