"""How good predictions are, for all snapshots and for resamples of the runs they are from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 512
"""How many snapshots are compared with all others at a time."""


@dataclass(frozen=True)
class Resamples:
    """How often each run is drawn, so that the snapshots of a run are drawn together.

    Snapshots of one run are alike, so they are no independent evidence: runs are.

    Args:
        number: of the run of each snapshot, from 0, `(snapshots,)`.
        times: how often each run is in each resample, `(resamples, runs)`.
    """

    number: Tensor
    times: Tensor

    @classmethod
    def once(cls, snapshots: int) -> "Resamples":
        """Every snapshot once: the scores themselves."""
        return cls(torch.zeros(snapshots, dtype=torch.int64), torch.ones(1, 1, dtype=torch.float64))

    @classmethod
    def drawn(cls, runs: Tensor, count: int, seed: int = 0) -> "Resamples":
        """Draw as many runs as there are, with replacement, `count` times.

        Args:
            runs: the run of each snapshot, any integers, `(snapshots,)`.
            count: number of resamples.
            seed: of the draw; the global random state is left alone.
        """
        distinct, number = torch.unique(runs, return_inverse=True)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(distinct), (count, len(distinct)), generator=generator)
        times = torch.zeros(count, len(distinct), dtype=torch.float64)
        return cls(number, times.scatter_add_(1, drawn, torch.ones_like(times)))

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the snapshots of each resample, `(resamples,)`, of `(snapshots,)`."""
        return self._total(values.double()) / self._total(torch.ones_like(values).double())

    def pairs(self, compare: Callable[[slice], Tensor]) -> Tensor:
        """Sum over all pairs of snapshots in each resample, `(resamples,)`.

        Args:
            compare: some snapshots with all, `(some, snapshots)`; 0 of one with itself.
        """
        snapshots, runs = len(self.number), self.times.shape[1]
        by_run = torch.zeros(runs, runs, dtype=torch.float64)
        for start in range(0, snapshots, ROWS):
            rows = slice(start, start + ROWS)
            compared = compare(rows).double()
            columns = torch.zeros(runs, len(compared), dtype=torch.float64)
            columns.index_add_(0, self.number, compared.T)
            by_run.index_add_(0, self.number[rows], columns.T)
        return ((self.times @ by_run) * self.times).sum(1)

    def _total(self, values: Tensor) -> Tensor:
        by_run = torch.zeros(self.times.shape[1], dtype=torch.float64)
        return self.times @ by_run.index_add_(0, self.number, values)


class Score(NamedTuple):
    """A way to measure predictions.

    Args:
        name: as it is shown.
        higher: whether higher is better.
        measure: predictions and what is true, `(snapshots,)` each, to `(resamples,)`.
    """

    name: str
    higher: bool
    measure: Callable[[Tensor, Tensor, Resamples], Tensor]

    def of(self, predicted: Tensor, true: Tensor) -> float:
        """Score of all predictions."""
        return float(self.measure(predicted, true, Resamples.once(len(true))))

    def better(self, score: float, than: float) -> bool:
        """Whether a score is better than another; nothing is better than what is no number."""
        return score > than if self.higher else score < than


def _accuracy(predicted: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
    return resamples.mean(predicted == true)


def _squared_error(predicted: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
    return resamples.mean((predicted.double() - true.double()).square())


def _r2(predicted: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
    true = true.double()
    variance = resamples.mean(true.square()) - resamples.mean(true).square()
    return 1 - _squared_error(predicted, true, resamples) / variance


def _tau(predicted: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
    def order(values: Tensor) -> Callable[[slice], Tensor]:
        return lambda rows: (values[rows, None] - values[None, :]).sign()

    by_prediction, by_truth = order(predicted), order(true)
    agreeing = resamples.pairs(lambda rows: by_prediction(rows) * by_truth(rows))
    distinct = resamples.pairs(lambda rows: by_prediction(rows).abs())
    distinct = distinct * resamples.pairs(lambda rows: by_truth(rows).abs())
    # A constant prediction orders nothing: 0, as if at random.
    return agreeing / distinct.sqrt().clamp(min=1)


ACCURACY = Score("accuracy", True, _accuracy)
"""Share of snapshots whose class is right."""

TAU = Score("Kendall tau", True, _tau)
"""Kendall's tau-b: how well predictions order snapshots, from -1 to 1.

Source: Kendall, "The treatment of ties in ranking problems", Biometrika 1945.
"""

R2 = Score("R2", True, _r2)
"""Share of the variance that is explained; 0 for the mean, less for worse."""

SQUARED_ERROR = Score("squared error", False, _squared_error)
"""Mean squared error."""


class Interval(NamedTuple):
    """A figure, and where it would mostly be with other runs: its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: Tensor) -> "Interval":
        """Interval of a figure from those of resamples, `(resamples,)`."""
        low, high = resampled.nanquantile(torch.tensor([0.025, 0.975], dtype=resampled.dtype))
        return cls(value, float(low), float(high))
