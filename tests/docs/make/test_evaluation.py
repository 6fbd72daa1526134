import math
from dataclasses import replace

import pytest

from docs.make import evaluation as module
from docs.make.evaluation import Result, comparison_of, results_of, short_names
from docs.make.results import smaller
from meta_train.comparison import Row
from tests.docs.make.made_up import FAR, NEAR, evaluation, row, rows


def cells(lines):
    return [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


def blocks(given=None, **changes):
    return module.blocks(smaller("evaluation", evaluation(given)) | changes)


ROWS = [
    row("adamw", NEAR[0], 1.0, relative_train=0.5),
    row("default", NEAR[0], 0.5, 2.0, test=1.5),
    row("lstm", NEAR[0], 30.0, 0.0, diverged=2),
    row("adamw", FAR[0], 2.0, suite="far"),
    row("default", FAR[0], 4.0, 0.0, "far", stalled=1),
    row("lstm", FAR[0], 2.0, 1.0, "far", worse=False, accuracy=None),
]


def test_losses_are_relative_to_the_reference():
    own = Result(row("default", NEAR[0], 0.5, test=3.0), row("adamw", NEAR[0], 2.0, test=1.5))
    assert (own.ratio, own.test_ratio, own.group) == (0.25, 2.0, "near")
    assert replace(own, row=row("default", NEAR[0], 1.0, stalled=1, diverged=2)).lost == 3


def test_each_rule_is_beside_the_reference_on_the_same_task():
    found = results_of(comparison_of(evaluation([*rows(), row("adamw", NEAR[0], 7.0, suite="")])))
    assert list(found) == ["default"]
    assert [r.row.task for r in found["default"]] == [*NEAR, *FAR]
    for result in found["default"]:
        assert result.reference.task == result.row.task
        assert (result.reference.contestant, result.reference.train) == ("adamw", 1)


def test_figures_that_are_not_finite_come_back():
    plain = evaluation()["rows"][0]
    restored = Row.of({**plain, "error": None, "accuracy": None, "steps": None})
    assert math.isnan(restored.error)
    assert (restored.accuracy, restored.steps) == (None, None)
    assert restored.budget == rows()[0].budget


def test_short_names_differ_as_the_long_ones_do():
    names = short_names([*NEAR, *FAR, NEAR[0]])
    assert len(set(names.values())) == len(names) == len(NEAR + FAR)
    assert names[NEAR[0]] == "mlp cifar10 width=64"
    assert names[FAR[0]] == "vit cifar10"
    assert short_names(["plain", "quadratic(size=2)"])["quadratic(size=2)"] == "quadratic"
    nested = ["mine(scales=(1, 2), size=4)", "mine(scales=(1, 3), size=4)"]
    assert short_names(nested)[nested[0]] == "mine scales=(1, 2)"


def test_groups():
    table = cells(blocks(ROWS)["groups"])
    assert [line[:2] for line in table[2:]] == [
        [group, f"`{name}`"] for group in ("near", "far") for name in ("adamw", "default", "lstm")
    ]
    assert table[3][2:] == ["2.00", "0.5", "1.5", "50.0 %", "0 of 1", "0", "0"]
    assert table[4][2:] == ["0.00", "30", "30", "50.0 %", "1 of 1", "0", "2"]
    assert table[7][2:] == ["1.00", "1", "1", "-", "0 of 1", "0", "0"]


@pytest.mark.parametrize(("planned", "said"), [(9, False), (12, True)])
def test_unfinished_evaluations_say_so(planned, said):
    last = blocks(planned=planned)["groups"][-1]
    assert (last == "**Not finished: 9 of 12 tasks.**") == said


def test_tasks_come_from_the_fastest_to_the_slowest():
    lines = blocks(ROWS)["tasks"]
    assert [line for line in lines if line.startswith("###")] == ["### near", "### far"]
    near, far = cells(lines)[2], cells(lines)[5]
    both = ["2.00 · 0.500 · 50.0", "0.00 · **30** · 50.0 †"]
    assert near == ["mlp cifar10", "1,000", "1 · 50.0", *both]
    assert far[3:] == ["0.00 · **2.000** · 50.0 †", "1.00 · 1.000"]
    table = cells(blocks()["tasks"])
    speeds = [float(line[3].partition(" ")[0]) for line in table if line[3][0].isdigit()]
    assert speeds == [6, 5, 4, 3, 2, 1, 0, 0, 0]


def test_tasks_without_rules_or_groups():
    alone = blocks([row("adamw", NEAR[0], 1.0)])
    assert not alone["tasks"] + alone["verdicts"] + alone["curves"]
    made = blocks([row(name, NEAR[0], 1.0, suite="") for name in ("adamw", "default")])
    assert "### Of no group" in made["tasks"]


def test_verdicts_count_tasks_and_name_few_of_them():
    table = {line[0]: line[1:] for line in cells(blocks()["verdicts"])}
    gnn, vae, rnn = "gnn cifar10 (far)", "vae cifar10 (far)", "rnn cifar10 (far)"
    assert table["ends more than 2 % above the opponent"] == ["3/9", f"{gnn}; {vae}; {rnn}"]
    assert table["diverges or stalls"] == ["0/9", ""]
    assert table["ends above the opponent"][0] == "3/9"
    given = [row(name, task, 1.0) for task in NEAR for name in ("adamw", "default")]
    given += [row(name, task, 1.0, suite="far") for task in FAR for name in ("adamw", "default")]
    given = [replace(r, test=2.0) if r.contestant == "default" else r for r in given]
    assert cells(blocks(given)["verdicts"])[-1][1:] == ["9/9", ""]


def test_conditions_follow_the_options():
    table = dict(cells(blocks()["conditions"]))
    assert table["opponent"] == "`adamw`, the best of 14 settings for each task"
    assert table["learning rates of the opponent"].startswith("0.0001 to 0.1")
    assert table["tried on"].startswith("all on 1 start(s), the best 2 of each")
    assert table["best at the edge of what was tried"] == "0 task(s)"
    assert table["chosen by"] == "final training loss"
    edge = [row(name, NEAR[0], 1.0, at_edge=True) for name in ("adamw", "default")]
    table = dict(cells(blocks(edge, screen=0, lr=0.5, criterion="accuracy")["conditions"]))
    assert table["tried on"] == "all starts"
    assert table["learning rate of a rule"] == "0.5, constant"
    assert table["best at the edge of what was tried"] == "1 task(s)"
    assert table["chosen by"] == "held-out accuracy"


def test_curves_are_named_in_their_order():
    (caption,) = blocks(pictured=[["far", FAR[2]], ["", NEAR[1]]])["curves"]
    assert caption.endswith("gnn cifar10 (far); mlp mnist width=32.")


def test_few_tasks_and_no_rule_can_be_pictured_too():
    given = [row(name, task, 1.0) for task in NEAR[:2] for name in ("adamw", "default")]
    small = smaller("evaluation", evaluation(given))
    assert [task for _, task in small["pictured"]] == list(NEAR[:2])
