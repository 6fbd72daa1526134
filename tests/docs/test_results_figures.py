import math
from dataclasses import replace

import pytest

from docs.results_figures import (
    GOALS,
    Result,
    chosen,
    comparison_of,
    options_of,
    placed,
    results_of,
    short_names,
)
from meta_train.comparison import Row
from tests.docs.results import FAR, NEAR, evaluation, row, rows


def verdicts(results):
    """Cells of the goals by the first word of their names."""
    return {goal.name.strip("*").split()[0].strip(":*,"): goal.cell(results) for goal in GOALS}


def result(task=NEAR[0], train=1.0, speed_up=1.0, suite="near", theirs=0.5, **figures):
    own = row("default", task, train, speed_up, suite, **figures)
    return Result(own, row("adamw", task, 1.0, suite=suite, accuracy=theirs))


def test_losses_are_relative_to_the_reference():
    own = Result(row("default", NEAR[0], 0.5, test=3.0), row("adamw", NEAR[0], 2.0, test=1.5))
    assert (own.ratio, own.test_ratio) == (0.25, 2.0)
    assert replace(own, row=row("default", NEAR[0], 1.0, stalled=1, diverged=2)).lost == 3


def test_each_rule_is_beside_the_reference_on_the_same_task():
    found = results_of(comparison_of(evaluation([*rows(), row("adamw", NEAR[0], 7.0, suite="")])))
    assert list(found) == ["default"]
    assert [r.row.task for r in found["default"]] == [*NEAR, *FAR]
    assert all(r.reference.task == r.row.task for r in found["default"])
    assert all(
        (r.reference.contestant, r.reference.train) == ("adamw", 1) for r in found["default"]
    )


def test_means_are_those_of_the_rows():
    comparison = comparison_of(evaluation())
    means = {(s.suite, s.contestant): s.speed_up for s in comparison.summaries}
    assert means["near", "default"] == (4 + 5) / 2
    assert means["far", "default"] == pytest.approx((0 + 0 + 1) / 3)
    assert comparison.planned == 9


def test_figures_that_are_not_finite_come_back():
    plain = evaluation()["rows"][0]
    restored = Row.of({**plain, "error": None, "accuracy": None, "steps": None})
    assert math.isnan(restored.error)
    assert (restored.accuracy, restored.steps) == (None, None)
    assert restored.budget == rows()[0].budget


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["sgdm", "lstm", "default"], "default"),
        (["sgdm", "runs/mine", "lstm"], "runs/mine"),
        (["sgdm"], None),
        ([], None),
    ],
)
def test_the_rule_of_the_page(names, rule):
    assert chosen(names, ["adamw", "sgdm"]) == rule


def test_options_of_a_task():
    assert options_of("quadratic(size=4, rotated=True)") == (
        "quadratic",
        {"size": "4", "rotated": "True"},
    )
    assert options_of("mine(scales=(1, 2), size=4)")[1] == {"scales": "(1, 2)", "size": "4"}
    assert options_of("plain") == ("plain", {})


def test_short_names_differ_as_the_long_ones_do():
    names = short_names([*NEAR, *FAR, NEAR[0]])
    assert list(names) == [*NEAR, *FAR]
    assert len(set(names.values())) == len(names)
    assert names[NEAR[0]] == "mlp cifar10 width=64"
    assert names[FAR[0]] == "vit cifar10"
    assert short_names(["plain", "quadratic(size=2)"])["quadratic(size=2)"] == "quadratic"


def test_suites_of_tasks():
    assert placed("mlp", "near") == "mlp (near)"
    assert placed("mlp", "") == "mlp"


@pytest.mark.parametrize(
    ("suite", "speed", "cell"),
    [
        ("near", 1.49, "1.49, missed"),
        ("near", 1.5, "1.50, floor"),
        ("near", 2.5, "**2.50**, goal"),
        ("far", 1.09, "1.09, missed"),
        ("far", 1.1, "1.10, floor"),
        ("far", 1.9, "**1.90**, goal"),
    ],
)
def test_goals_of_speed(suite, speed, cell):
    (goal,) = (goal for goal in GOALS if goal.name == f"*{suite}*: speed-up")
    other = "far" if suite == "near" else "near"
    assert goal.cell([result(speed_up=speed, suite=suite), result(speed_up=9, suite=other)]) == cell


@pytest.mark.parametrize(
    ("worse", "cell"), [(0, "**0 of 5**, goal"), (1, "1 of 5, floor"), (2, "2 of 5, missed")]
)
def test_goal_of_tasks_that_are_worse(worse, cell):
    (goal,) = (goal for goal in GOALS if "worse" in goal.name)
    assert goal.cell([result(suite="far", train=1 + 0.1 * (n < worse)) for n in range(5)]) == cell


@pytest.mark.parametrize(
    ("speed", "lost", "cell"),
    [
        (1.3, {}, "**0 of 3; 1.30**, goal"),
        (1.2, {}, "0 of 3; 1.20, floor"),
        (1.3, {"stalled": 1}, "1 of 3; 1.30, missed"),
        (1.3, {"diverged": 3}, "3 of 3; 1.30, missed"),
    ],
)
def test_goal_of_large_tasks(speed, lost, cell):
    assert verdicts([result(suite="large", speed_up=speed, **lost)])["large"] == cell


@pytest.mark.parametrize(
    ("own", "theirs", "cell"),
    [
        (0.60, 0.5, "60.0 (+10.0), missed"),
        (0.62, 0.63, "62.0 (-1.0), missed"),
        (0.62, 0.6, "62.0 (+2.0), floor"),
        (0.69, 0.7, "69.0 (-1.0), missed"),
        (0.69, 0.6, "**69.0 (+9.0)**, goal"),
        (None, 0.6, "-, missed"),
    ],
)
def test_goal_of_cifar10(own, theirs, cell):
    found = [result(NEAR[3], accuracy=own, theirs=theirs), result(NEAR[0], accuracy=1.0)]
    assert verdicts(found)["CIFAR-10"] == cell


def test_goal_of_fashion_mnist():
    assert verdicts([result(NEAR[2], accuracy=0.85)])["FashionMNIST"] == "85.0 (+35.0), floor"
    assert verdicts([result(NEAR[2], accuracy=0.87)])["FashionMNIST"] == "**87.0 (+37.0)**, goal"


def test_goal_of_transfer_is_the_worst_case():
    found = [result(suite="transfer", accuracy=0.5 + n / 100, theirs=0.5) for n in (9, 4, 1)]
    assert verdicts(found)["transfer"] == "+1.0, floor"
    assert verdicts(found[:2])["transfer"] == "**+4.0**, goal"
    assert verdicts([*found, result(suite="transfer", accuracy=None)])["transfer"] == "-inf, missed"


def test_what_was_not_measured_is_not_judged():
    assert set(verdicts([result(suite="")]).values()) == {"not measured"}
    other = result(NEAR[3], accuracy=0.9)
    cut = replace(other, row=replace(other.row, budget=replace(other.row.budget, steps=30)))
    assert verdicts([cut])["CIFAR-10"] == "not measured"
