"""Figures of all workloads: each optimizer beside the recipe."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from benchmarks.workloads.run import Result
from benchmarks.workloads.workload import Workload
from meta_train.comparison import interquartile_mean

REFERENCE = "recipe"


@dataclass(frozen=True)
class Curve:
    """The runs of an optimizer on a workload.

    Args:
        at: numbers of steps after which the metric was taken.
        mean: of the metric over seeds at each of them, NaN if one is not finite.
        seconds: mean over seeds until each of them.
        finals: metric of each seed at the end, NaN if it has diverged.
        early: largest early rise of the seeds; None if a seed has none.
    """

    at: list[int]
    mean: list[float]
    seconds: list[float]
    finals: list[float]
    early: float | None

    @classmethod
    def of(cls, results: Sequence[Result]) -> "Curve":
        """Average over the seeds of one optimizer; those that diverged have no metric since."""
        longest = max(results, key=lambda result: result.at[-1])
        count = len(longest.at)
        metrics = [_padded(result.metrics, count) for result in results]
        whole = [result.seconds for result in results if result.at == longest.at]
        rises = [result.early for result in results]
        return cls(
            at=longest.at,
            mean=[fmean(values) for values in zip(*metrics, strict=True)],
            seconds=[fmean(values) for values in zip(*whole, strict=True)],
            finals=[
                math.nan if result.diverged else _number(result.metrics[-1]) for result in results
            ],
            early=None if None in rises else max(rise for rise in rises if rise is not None),
        )

    @property
    def second_of_step(self) -> float:
        """Mean seconds of a step."""
        return self.seconds[-1] / self.at[-1]

    @property
    def final(self) -> float:
        """Mean over seeds at the end."""
        return fmean(self.finals)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds at the end, 0 for a single seed, NaN if one diverged."""
        if math.isnan(self.final):
            return math.nan
        return stdev(self.finals) if len(self.finals) > 1 else 0.0


@dataclass(frozen=True)
class Row:
    """An optimizer on a workload, beside the recipe.

    Args:
        workload: its name.
        task: `fresh` or `fine-tuning`.
        optimizer: its name.
        length: number of steps of its runs.
        seeds: number of them.
        diverged: how many of them diverged.
        final: metric in the end.
        spread: standard deviation over seeds.
        steps: share of the recipe's steps until its final metric; None for never.
        seconds: the same of its seconds.
        cost: seconds of a step over those of the recipe's; None without a recipe.
        early: largest early rise of the loss.
        verdict: `worse`, `better` or `same`; None without a recipe to compare to.
    """

    workload: str
    task: str
    optimizer: str
    length: int
    seeds: int
    diverged: int
    final: float
    spread: float
    steps: float | None
    seconds: float | None
    cost: float | None
    early: float | None
    verdict: str | None


@dataclass(frozen=True)
class Summary:
    """An optimizer on several workloads, beside the recipe.

    Args:
        optimizer: its name.
        task: `all`, `fresh` or `fine-tuning`.
        workloads: number of them.
        worse: on how many it is worse than the recipe by more than the spread over seeds.
        better: the same for better.
        never: on how many it never reaches the recipe's final metric.
        steps: interquartile mean of the shares of steps; never counts as 1.
        seconds: the same of seconds; never counts as the cost, but at least as 1.
        cost: interquartile mean of the costs of steps.
        early: largest early rise of the loss on any workload.
    """

    optimizer: str
    task: str
    workloads: int
    worse: int
    better: int
    never: int
    steps: float
    seconds: float
    cost: float
    early: float | None


def reached(curve: Curve, target: float, higher: bool) -> tuple[float, float] | None:
    """Steps and seconds until the mean metric is at least as good as a target; None for never.

    Args:
        curve: of an optimizer.
        target: a metric.
        higher: whether a higher metric is better.
    """
    sign = 1 if higher else -1
    gaps = [sign * (value - target) for value in curve.mean]
    for i, gap in enumerate(gaps):
        if gap >= 0:
            part = gap / (gap - gaps[i - 1]) if i and math.isfinite(gaps[i - 1]) else 0.0
            before = max(0, i - 1)
            return (
                curve.at[i] - part * (curve.at[i] - curve.at[before]),
                curve.seconds[i] - part * (curve.seconds[i] - curve.seconds[before]),
            )
    return None


def rows(workload: Workload, curves: Mapping[str, Curve]) -> Iterator[Row]:
    """All optimizers of a workload, in order.

    Args:
        workload: the kind of training.
        curves: by names of optimizers.
    """
    recipe = curves.get(REFERENCE)
    for name, curve in curves.items():
        plain = Row(
            workload=workload.name,
            task=workload.task,
            optimizer=name,
            length=curve.at[-1],
            seeds=len(curve.finals),
            diverged=sum(map(math.isnan, curve.finals)),
            final=curve.final,
            spread=curve.spread,
            steps=None,
            seconds=None,
            cost=None,
            early=curve.early,
            verdict=None,
        )
        if recipe is None:
            yield plain
            continue
        there = reached(curve, recipe.final, workload.higher)
        yield replace(
            plain,
            steps=there and there[0] / recipe.at[-1],
            seconds=there and there[1] / recipe.seconds[-1],
            cost=curve.second_of_step / recipe.second_of_step,
            verdict=verdict(curve, recipe, workload.higher),
        )


def verdict(curve: Curve, recipe: Curve, higher: bool) -> str:
    """Whether an optimizer is `worse` than the recipe, `better`, or the `same` but for the seed.

    Args:
        curve: of the optimizer.
        recipe: the recipe's.
        higher: whether a higher metric is better.
    """
    if math.isnan(curve.final):
        return "worse"
    if math.isnan(recipe.final):
        return "better"
    gain = (curve.final - recipe.final) * (1 if higher else -1)
    if abs(gain) <= max(curve.spread, recipe.spread):
        return "same"
    return "better" if gain > 0 else "worse"


def summaries(table: Sequence[Row]) -> Iterator[Summary]:
    """One for each optimizer, of all workloads and, where there are both, of each task.

    Args:
        table: rows of all workloads; those without a recipe to compare to do not count.
    """
    tasks = sorted({row.task for row in table}, reverse=True)
    for task in ["all", *(tasks if len(tasks) > 1 else [])]:
        for name in dict.fromkeys(row.optimizer for row in table):
            own = [row for row in table if row.optimizer == name and task in ("all", row.task)]
            own = [row for row in own if row.verdict is not None]
            if not own:
                continue
            yield Summary(
                optimizer=name,
                task=task,
                workloads=len(own),
                worse=sum(row.verdict == "worse" for row in own),
                better=sum(row.verdict == "better" for row in own),
                never=sum(row.steps is None for row in own),
                steps=interquartile_mean([1.0 if r.steps is None else r.steps for r in own]),
                seconds=interquartile_mean([_seconds(row) for row in own]),
                cost=interquartile_mean([row.cost or 0.0 for row in own]),
                early=max((row.early for row in own if row.early is not None), default=None),
            )


def _seconds(row: Row) -> float:
    return max(1.0, row.cost or 0.0) if row.seconds is None else row.seconds


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _padded(values: Sequence[float | None], count: int) -> list[float]:
    return [*map(_number, values), *[math.nan] * (count - len(values))]
