import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from meta_train import comparison as module
from meta_train.baselines import Sweep, Tuned
from meta_train.comparison import Row, Trial, compare, interquartile_mean, stalled, steps_to_reach
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


def last(comparisons):
    return list(comparisons)[-1]


@pytest.fixture
def against(monkeypatch):
    """Compare planted results: of two contestants on each task."""

    def compared(*results, suites=None):
        tasks = [Quadratic() for _ in results]
        for number, task in enumerate(tasks):
            task.name = f"task {number}"
        table = {task.name: found for task, found in zip(tasks, results, strict=True)}
        in_suites = zip(tasks, suites or [""] * len(tasks), strict=True)
        trials = [Trial(task, BUDGET, suite) for task, suite in in_suites]
        sweeps = [Sweep("adam", Adam(), (Setting(),)), Sweep("ours", Adam(), (Setting(),))]

        def tuned(sweep, task, budget, criterion, folder, screen):
            return table[task.name][sweep.name == "ours"]

        monkeypatch.setattr(module, "tuned", tuned)
        return last(compare(sweeps, trials))

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


def test_summaries_of_each_suite(against):
    same, faster = (planted([33]), planted([33])), (planted([33]), planted([15]))
    found = against(same, faster, faster, suites=["near", "far", "near"]).summaries
    assert [(s.suite, s.contestant, s.tasks) for s in found] == [
        ("near", "adam", 2),
        ("near", "ours", 2),
        ("far", "adam", 1),
        ("far", "ours", 1),
    ]
    assert [s.speed_up for s in found] == [1.0, 1.5, 1.0, 2.0]


@pytest.mark.parametrize(("factor", "worse"), [(1.0, False), (1.019, False), (1.021, True)])
def test_who_is_worse(against, factor, worse):
    result = planted([20])
    other = replace(result, curve=replace(result.curve, losses=factor * result.curve.losses))
    found = against((result, other), (result, result))
    assert [row.worse for row in found.rows] == [False, worse, False, False]
    assert [summary.worse for summary in found.summaries] == [0, worse]


@pytest.mark.parametrize(
    ("reference", "levels", "expected"),
    [
        ([20], [], True),
        ([20], [5], False),
        ([20], [30], False),
        ([5, 20], [5], True),
        ([], [], False),
    ],
    ids=["stands", "quick", "late", "stands after a while", "so does the reference"],
)
def test_who_has_stalled(against, reference, levels, expected):
    ours, theirs = planted(levels), planted(reference)
    assert stalled(ours.curve, theirs.curve).tolist() == [expected, expected]
    found = against((theirs, ours), (theirs, theirs))
    assert [row.stalled for row in found.rows] == [0, 2 * expected, 0, 0]
    assert [summary.stalled for summary in found.summaries] == [0, 2 * expected]


def test_a_run_has_stalled_by_itself():
    stands, learns = planted([]).curve, planted([20]).curve
    mixed = replace(stands, losses=torch.stack([stands.losses[:, 0], learns.losses[:, 1]], 1))
    assert stalled(mixed, learns).tolist() == [True, False]


def test_what_has_diverged_has_not_stalled():
    ours, theirs = planted([], diverged=(True, False)), planted([20])
    assert stalled(ours.curve, theirs.curve).tolist() == [False, True]


def test_a_loss_that_rises_again_has_stalled():
    curve = planted([5]).curve
    risen = replace(curve, losses=torch.cat([curve.losses[:30], 3 * curve.losses[30:]]))
    assert stalled(risen, curve).tolist() == [True, True]


def test_curves_are_means_over_problems(against):
    result = planted([20])
    curves = against((result, result)).curves
    assert curves == {"task 0": dict.fromkeys(("adam", "ours"), [32.0] * 19 + [16.0] * 21)}


def test_real_tasks(tmp_path):
    sweeps = [
        Sweep("adam", Adam(), (Setting(0.01), Setting(0.1))),
        Sweep("sgdm", SGDM(), (Setting(0.01),)),
    ]
    trials = [Trial(Network(), Budget(10, 2, batches=1)), Trial(Quadratic(), Budget(5, 1), "far")]
    first, found = compare(sweeps, trials, folder=tmp_path)
    assert (first.planned, found.planned) == (2, 2)
    assert first.rows == found.rows[:2]
    assert [len(curves["adam"]) for curves in found.curves.values()] == [10, 5]
    assert set(found.curves) == {"random", "far: quadratic"}
    assert [(row.suite, row.budget.steps) for row in found.rows] == 2 * [("", 10)] + 2 * [
        ("far", 5)
    ]
    assert [(row.task, row.contestant) for row in found.rows] == [
        (task, name) for task in ("random", "quadratic") for name in ("adam", "sgdm")
    ]
    assert found.reference == "adam"
    assert all(row.speed_up == 1.0 for row in found.rows if row.contestant == "adam")
    assert [row.accuracy is None for row in found.rows] == [False, False, True, True]
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert len(list((tmp_path / "curves").iterdir())) == 6


def test_error_of_a_single_problem_is_unknown():
    sweep = Sweep("sgdm", SGDM(), (Setting(0.01),))
    (row,) = last(compare([sweep], [Trial(Quadratic(), Budget(3, 1, batches=1))])).rows
    assert math.isnan(row.error)


def test_names_must_differ():
    sweep, trial = Sweep("adam", Adam(), (Setting(),)), Trial(Quadratic(), BUDGET)
    with pytest.raises(MetaTrainError, match=r"contestants \['adam', 'adam'\]"):
        list(compare([sweep, sweep], [trial]))
    with pytest.raises(MetaTrainError, match=r"tasks \['quadratic', 'quadratic'\]"):
        list(compare([sweep], [trial, trial]))
    with pytest.raises(MetaTrainError, match=r"tasks \[\]"):
        list(compare([sweep], []))


def test_rows_of_earlier_files_have_rings(against):
    row = against((planted([16]), planted([8])), suites=["near"]).rows[0]
    plain = asdict(row)
    assert Row.of(plain) == row
    plain["ring"] = plain.pop("suite")
    assert Row.of(plain) == row
