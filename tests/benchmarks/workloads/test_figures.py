import math
from dataclasses import replace

import pytest

from benchmarks.workloads.figures import Curve, reached, rows, summaries, verdict
from benchmarks.workloads.run import Result
from tests.benchmarks.workloads.toy import toy

PLAIN = Result(
    workload="toy",
    optimizer="recipe",
    seed=0,
    steps=40,
    losses=[2.0, 1.0],
    at=[10, 20, 30, 40],
    metrics=[],
    seconds=[1.0, 2.0, 3.0, 4.0],
    early=1.0,
    diverged=None,
    clock="process",
    command="",
    commit=None,
    torch="",
)


def runs(name, *metrics, **changes):
    return [
        replace(PLAIN, optimizer=name, seed=seed, metrics=list(values), **changes)
        for seed, values in enumerate(metrics)
    ]


def curve(name, *metrics, **changes):
    return Curve.of(runs(name, *metrics, **changes))


RECIPE = curve("recipe", [9.0, 7.0, 5.0, 3.0], [9.0, 7.0, 7.0, 5.0])  # ends at 4 ± 1.414
FAST = curve("ngopt", [8.0, 3.0, 2.0, 1.0], [8.0, 3.0, 2.0, 2.0], seconds=[2.0, 4.0, 6.0, 8.0])
SLOW = curve("swap", [9.0, 8.0, 7.0, 6.0], [9.0, 8.0, 7.0, 7.0], seconds=[2.0, 4.0, 6.0, 8.0])


def table(workload=None, **curves):
    curves = {"recipe": RECIPE, "ngopt": FAST, "swap": SLOW, **curves}
    return {row.optimizer: row for row in rows(workload or toy(), curves)}


def test_shares_are_interpolated_between_evaluations():
    row = table()["ngopt"]
    # From 8 at step 10 to 3 at step 20, the recipe's 4 is passed at four fifths: step 18 of 40,
    # second 3.6 of the recipe's 4.
    assert row.steps == pytest.approx(18 / 40)
    assert row.seconds == pytest.approx(3.6 / 4)
    assert row.cost == pytest.approx(2.0)
    assert row.final == 1.5
    assert row.spread == pytest.approx(0.5**0.5)
    assert row.verdict == "better"


def test_the_recipe_takes_as_long_as_it_takes():
    row = table()["recipe"]
    assert (row.steps, row.seconds, row.cost, row.verdict) == (1.0, 1.0, 1.0, "same")
    assert row.spread == pytest.approx(2**0.5)


def test_what_never_gets_there():
    row = table()["swap"]
    assert (row.steps, row.seconds, row.verdict) == (None, None, "worse")


def test_higher_may_be_better():
    recipe = curve("recipe", [0.2, 0.4, 0.6, 0.8])
    ours = curve("ngopt", [0.5, 0.9, 0.9, 0.7])
    (_, row) = rows(toy(higher=True), {"recipe": recipe, "ngopt": ours})
    assert row.steps == pytest.approx(17.5 / 40)
    assert row.verdict == "worse"
    (_, row) = rows(toy(higher=False), {"recipe": recipe, "ngopt": ours})
    assert row.steps == pytest.approx(10 / 40)
    assert row.verdict == "better"


def test_first_evaluation_is_the_earliest():
    assert reached(FAST, 100.0, higher=False) == (10, 2.0)
    assert reached(FAST, -1.0, higher=False) is None


def test_verdicts_take_more_than_the_larger_spread():
    steady = curve("recipe", [4.0], [4.0])
    assert verdict(curve("ngopt", [4.0], [5.0]), steady, higher=False) == "same"
    assert verdict(curve("ngopt", [5.0], [5.5]), steady, higher=False) == "worse"
    assert verdict(curve("ngopt", [5.0], [5.5]), steady, higher=True) == "better"
    assert verdict(curve("ngopt", [4.0]), steady, higher=False) == "same"


def test_a_seed_that_diverges_makes_it_worse_and_is_counted():
    good, bad = runs("ngopt", [1.0, 1.0, 1.0, 1.0], [1.0, None])
    bad = replace(bad, at=[10, 17], seconds=[1.0, 1.7], diverged=17, early=None)
    row = table(ngopt=Curve.of([bad, good]))["ngopt"]
    assert (row.diverged, row.seeds, row.verdict, row.early) == (1, 2, "worse", None)
    assert math.isnan(row.final)
    assert row.steps == 0.25  # both were there at step 10
    assert verdict(RECIPE, Curve.of([bad, good]), higher=False) == "better"


def test_one_that_diverges_just_before_the_end():
    good, bad = runs("ngopt", [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, None])
    bad = replace(bad, at=[10, 20, 30, 39], seconds=[9.0] * 4, diverged=39)
    found = Curve.of([bad, good])
    assert found.at == good.at
    assert found.seconds == good.seconds


def test_summaries():
    first = list(rows(toy(), {"recipe": RECIPE, "ngopt": FAST, "swap": SLOW}))
    second = list(
        rows(toy(name="other", task="fine-tuning"), {"recipe": RECIPE, "ngopt": SLOW, "swap": SLOW})
    )
    found = {(summary.task, summary.optimizer): summary for summary in summaries(first + second)}
    assert {task for task, _ in found} == {"all", "fresh", "fine-tuning"}
    ours = found["all", "ngopt"]
    assert (ours.workloads, ours.worse, ours.better, ours.never) == (2, 1, 1, 1)
    assert ours.steps == pytest.approx((18 / 40 + 1) / 2)  # never counts as 1
    assert ours.seconds == pytest.approx((3.6 / 4 + 2) / 2)  # never counts as the cost
    assert ours.cost == pytest.approx(2.0)
    assert found["fresh", "ngopt"].never == 0
    assert found["fine-tuning", "swap"].worse == 1


def test_a_cheap_one_that_never_gets_there_is_not_fast():
    cheap = curve("swap", [9.0] * 4, seconds=[0.5, 1.0, 1.5, 2.0])
    (found,) = (s for s in summaries(list(table(swap=cheap).values())) if s.optimizer == "swap")
    assert (found.steps, found.seconds, found.cost) == (1.0, 1.0, 0.5)


def test_without_a_recipe_there_is_nothing_to_compare_to():
    found = list(rows(toy(), {"ngopt": FAST}))
    assert (found[0].final, found[0].steps, found[0].verdict) == (1.5, None, None)
    assert list(summaries(found)) == []
