"""Scores against their definitions, and the bootstrap over runs."""

import math
from itertools import combinations

import pytest
import torch

from meta_train.reading.scores import ACCURACY, R2, SQUARED_ERROR, TAU, Interval, Resamples


def tau_by_definition(predicted, true):
    """Kendall's tau-b, pair by pair."""
    concordant, untied_predicted, untied_true = 0, 0, 0
    for i, j in combinations(range(len(true)), 2):
        a = (predicted[i] > predicted[j]) - (predicted[i] < predicted[j])
        b = (true[i] > true[j]) - (true[i] < true[j])
        concordant += a * b
        untied_predicted += a != 0
        untied_true += b != 0
    return concordant / math.sqrt(untied_predicted * untied_true)


@pytest.mark.parametrize("levels", [3, 7, 1000])
def test_tau_is_that_of_the_definition_with_and_without_ties(levels):
    predicted = torch.randint(levels, (60,)).double()
    true = torch.randint(levels, (60,)).double() + predicted / 3
    expected = tau_by_definition(predicted.tolist(), true.tolist())
    assert TAU.of(predicted, true) == pytest.approx(expected, abs=1e-12)


def test_tau_of_more_snapshots_than_are_compared_at_a_time():
    true = torch.randn(1100).double()
    assert TAU.of(true.exp(), true) == pytest.approx(1)
    assert TAU.of(-true, true) == pytest.approx(-1)


def test_a_constant_orders_nothing():
    assert TAU.of(torch.full((9,), 0.3), torch.randn(9)) == 0


def test_r2_accuracy_and_squared_error():
    true = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert R2.of(true.mean().expand(4), true) == pytest.approx(0)
    assert R2.of(true, true) == 1
    assert SQUARED_ERROR.of(true + 2, true) == pytest.approx(4)
    assert ACCURACY.of(torch.tensor([1, 2, 0]), torch.tensor([1, 1, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [ACCURACY, R2, SQUARED_ERROR, TAU], ids=lambda s: s.name)
def test_resampled_scores_are_scores_of_resampled_snapshots(score):
    runs = torch.tensor([7, 7, 2, 2, 2, 5, 9, 9])
    true = torch.randint(4, (8,)).double()
    predicted = torch.randint(4, (8,)).double()
    resamples = Resamples.drawn(runs, 20)
    found = score.measure(predicted, true, resamples)
    distinct = runs.unique()
    for times, value in zip(resamples.times, found, strict=True):
        assert times.sum() == len(distinct)
        index = torch.cat(
            [
                (runs == run).nonzero().flatten().repeat(int(count))
                for run, count in zip(distinct, times, strict=True)
            ]
        )
        if len(true[index].unique()) > 1:
            assert value == pytest.approx(score.of(predicted[index], true[index]), abs=1e-9)


def test_the_bootstrap_draws_runs_not_snapshots():
    # 4 runs of 100 equal snapshots each are worth 4 observations, not 400.
    runs = torch.arange(4).repeat_interleave(100)
    right = (runs < 2).long()
    found = ACCURACY.measure(torch.ones_like(right), right, Resamples.drawn(runs, 2000))
    assert set((found * 4).round(decimals=9).tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert found.std() == pytest.approx(0.25, abs=0.02)  # sqrt(0.25 / 4), not sqrt(0.25 / 400)


def test_interval_holds_most_resamples():
    interval = Interval.of(0.5, torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert interval == (0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_better_follows_the_direction_and_is_false_of_no_number():
    assert ACCURACY.better(0.6, 0.5)
    assert SQUARED_ERROR.better(0.4, 0.5)
    assert not SQUARED_ERROR.better(math.nan, math.inf)
