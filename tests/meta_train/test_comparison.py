import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from meta_train import comparison as module
from meta_train.baselines import Sweep, Tuned
from meta_train.comparison import compare, interquartile_mean, steps_to_reach
from meta_train.curves import Budget, Curve, Setting
from meta_train.errors import MetaTrainError
from ngopt.rules import SGDM, Adam
from tests.meta_train.small_tasks import Network, Quadratic

BUDGET = Budget(steps=40, problems=2)


def planted(levels, diverged=(False, False), accuracy=None):
    """Result whose loss halves at each of some steps, from 16 on, for two problems alike."""
    losses = torch.full((40,), 16.0)
    for level in levels:
        losses[level - 1 :] /= 2
    figures = {"loss": torch.tensor([1.0, 3.0])}
    if accuracy is not None:
        figures["accuracy"] = torch.tensor(accuracy)
    # The problems differ by a factor 3.
    curve = Curve(
        losses=torch.stack([losses, 3 * losses], 1),
        untrained=torch.tensor([16.0, 48.0]),
        measured={"held_out": {"loss": torch.tensor([2.0, 4.0])}, "test": figures},
        diverged=torch.tensor(diverged),
    )
    return Tuned(Setting(0.5, "cosine"), curve, (1.0, 0.5), at_edge=True)


@pytest.fixture
def against(monkeypatch):
    """Compare planted results: of two contestants on each task."""

    def compared(*results):
        tasks = [Quadratic() for _ in results]
        for number, task in enumerate(tasks):
            task.name = f"task {number}"
        table = {task.name: found for task, found in zip(tasks, results, strict=True)}
        sweeps = [Sweep("adam", Adam(), (Setting(),)), Sweep("ours", Adam(), (Setting(),))]

        def tuned(sweep, task, budget, criterion, folder):
            return table[task.name][sweep.name == "ours"]

        monkeypatch.setattr(module, "tuned", tuned)
        return compare(sweeps, tasks, BUDGET)

    return compared


@pytest.mark.parametrize(
    ("target", "expected"), [(8.0, 3), (7.9, 4), (4.0, 4), (1.0, None), (100.0, 1)]
)
def test_steps_to_reach(target, expected):
    assert steps_to_reach(torch.tensor([16.0, 10.0, 8.0, 4.0, 5.0]), target) == expected


def test_a_single_lucky_batch_does_not_count():
    losses = torch.full((40,), 8.0)
    losses[10], losses[30:] = 0.0, 1.0
    assert steps_to_reach(losses, 1.0) == 34


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_interquartile_mean_is_that_of_scipy(values):
    expected = float(trim_mean(values, 0.25))
    assert math.isclose(interquartile_mean(values), expected, rel_tol=1e-9, abs_tol=1e-9)


def test_interquartile_mean_of_something_lost_is_lost():
    assert math.isnan(interquartile_mean([1.0, math.nan, 2.0, 3.0]))


def test_rows_of_planted_curves(against):
    # The averages over 4 steps are at the final loss 3 steps after the last halving.
    adam, ours = against((planted([10, 33]), planted([5, 15, 30], accuracy=[0.5, 1.0]))).rows
    assert (adam.contestant, ours.contestant) == ("adam", "ours")
    assert adam.task == ours.task == "task 0"
    assert ours.setting == "lr 0.5 cosine"
    assert ours.at_edge
    assert (adam.train, ours.train) == (8.0, 4.0)
    assert math.isclose(adam.error, math.sqrt(2) * 4 / math.sqrt(2))
    assert (adam.relative_train, ours.relative_train) == (0.25, 0.125)
    assert (adam.held_out, adam.test) == (3.0, 2.0)
    assert adam.relative_test == (1 / 16 + 3 / 48) / 2
    assert (adam.accuracy, ours.accuracy) == (None, 0.75)
    assert (adam.steps, ours.steps) == (36, 18)
    assert (adam.speed_up, ours.speed_up) == (1.0, 2.0)


def test_who_never_gets_there(against):
    _, ours = against((planted([10]), planted([], diverged=(True, False)))).rows
    assert ours.steps is None
    assert ours.speed_up == 0.0
    assert ours.diverged == 1


def test_summaries(against):
    speeds = [(planted([33]), planted([33 - slack])) for slack in (0, 18, 27)]
    lost = (planted([33]), planted([], diverged=(True, True)))
    adam, ours = against(*speeds, lost).summaries
    assert (adam.contestant, adam.speed_up, adam.diverged) == ("adam", 1.0, 0)
    assert ours.speed_up == (1 + 36 / 18) / 2
    assert ours.relative_train == 0.5
    assert ours.diverged == 2
    assert ours.accuracy is None


def test_accuracy_is_summed_up_over_the_tasks_that_have_one(against):
    adam = planted([10])
    accuracies = [None, [0.5, 0.5], [0.75, 1.0]]
    _, ours = against(*((adam, planted([10], accuracy=a)) for a in accuracies)).summaries
    assert ours.accuracy == (0.5 + 0.875) / 2


def test_curves_are_means_over_problems(against):
    result = planted([20])
    curves = against((result, result)).curves
    assert curves == {"task 0": dict.fromkeys(("adam", "ours"), [32.0] * 19 + [16.0] * 21)}


def test_real_tasks(tmp_path):
    told = []
    sweeps = [
        Sweep("adam", Adam(), (Setting(0.01), Setting(0.1))),
        Sweep("sgdm", SGDM(), (Setting(0.01),)),
    ]
    found = compare(
        sweeps,
        [Network(), Quadratic()],
        Budget(10, 2, batches=1),
        folder=tmp_path,
        told=told.append,
    )
    assert tuple(told) == found.rows
    assert [(row.task, row.contestant) for row in found.rows] == [
        (task, name) for task in ("random", "quadratic") for name in ("adam", "sgdm")
    ]
    assert found.reference == "adam"
    assert all(row.speed_up == 1.0 for row in found.rows if row.contestant == "adam")
    assert [row.accuracy is None for row in found.rows] == [False, False, True, True]
    assert len(list(tmp_path.iterdir())) == 4


def test_error_of_a_single_problem_is_unknown():
    sweep = Sweep("sgdm", SGDM(), (Setting(0.01),))
    (row,) = compare([sweep], [Quadratic()], Budget(3, 1, batches=1)).rows
    assert math.isnan(row.error)


def test_names_must_differ():
    sweep = Sweep("adam", Adam(), (Setting(),))
    with pytest.raises(MetaTrainError, match=r"contestants \['adam', 'adam'\]"):
        compare([sweep, sweep], [Quadratic()], BUDGET)
    with pytest.raises(MetaTrainError, match=r"tasks \['quadratic', 'quadratic'\]"):
        compare([sweep], [Quadratic(), Quadratic()], BUDGET)
    with pytest.raises(MetaTrainError, match=r"tasks \[\]"):
        compare([sweep], [], BUDGET)
