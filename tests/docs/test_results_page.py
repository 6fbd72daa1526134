import re

import pytest

from docs.make_results import compact_evaluation
from docs.results_page import Sources, page
from tests.docs.results import FAR, NEAR, evaluation, row, rows


def made(given=None, **changes):
    compact = compact_evaluation(evaluation(given))
    return page(Sources({**compact, **changes}))


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_what_is_missing_is_said():
    text = page(Sources())
    assert text.count("yet.") == 3
    assert "|" not in text
    assert made().count("yet.") == 2


def test_protocol():
    text = section(made(), "What was measured")
    for said in (
        *("`adamw`", "14 settings", "from 0.0001 to 0.1", "1 start(s)", "best 2 of each"),
        *("final training loss", "Nothing of *near*, *far* was", "on 0 task(s)", "meta-trained at"),
    ):
        assert said in text
    assert "*large*" not in text


@pytest.mark.parametrize(("task", "uncut"), [("residual(size=16)", True), (FAR[0], False)])
def test_the_group_far_from_before_it_was_split_is_said_to_be_that(task, uncut):
    given = [row(name, task, 1.0, suite="far") for name in ("adamw", "default")]
    text = section(made(given), "What was measured")
    assert ("before it was split" in text) == uncut
    assert ("that no rule was meta-trained on" in text) != uncut


def test_protocol_follows_the_options():
    edge = row("adamw", NEAR[0], 1.0, suite="", at_edge=True)
    given = [edge, row("default", NEAR[0], 1.0, suite="", at_edge=True)]
    text = section(made(given, screen=0, lr=0.5, criterion="accuracy"), "What was measured")
    for said in ("on 1 task(s)", "runs at 0.5", "held-out accuracy", "of none"):
        assert said in text
    for unsaid in ("start(s)", "Nothing of"):
        assert unsaid not in text


@pytest.mark.parametrize(("planned", "said"), [(9, False), (12, True)])
def test_unfinished_evaluations_say_so(planned, said):
    assert ("**Not finished: 9 of 12 tasks.**" in made(planned=planned)) == said


def test_best_and_worst_tasks():
    text = made()
    good = re.findall(r"^\| (\w+ \w+)", section(text, "What it is good at"), re.MULTILINE)
    assert good == ["convnet cifar10", "convnet fashion_mnist", "mlp mnist"]
    bad = section(text, "What it is bad at")
    worst = re.findall(r"^\| (\w+) \w+ \(", bad, re.MULTILINE)
    assert worst == ["rnn", "vae", "gnn"]
    assert "on 3 task(s): gnn cifar10 (far); vae cifar10 (far); rnn cifar10 (far)." in bad
    assert "Diverges or stalls on no task." in bad
    assert "on 5 of 9 tasks, and ends lower on 5." in section(text, "What it is good at")


def test_where_it_fails_is_named():
    given = [
        *(row("adamw", task, 1.0) for task in NEAR[:3]),
        row("default", NEAR[0], 0.9, test=1.5),
        row("default", NEAR[1], 1.2, test=1.5, stalled=1),
        row("default", NEAR[2], 0.9, test=1.01),
    ]
    bad = section(made(given), "What it is bad at")
    assert "Diverges or stalls on 1 task(s): mlp mnist width=32 (near)." in bad
    assert "above the opponent's, on 1 task(s): mlp cifar10 width=64 (near)." in bad


def test_tasks_of_other_groups_do_not_count():
    other = [row(name, FAR[0], 5.0, 0.0, "transfer") for name in ("adamw", "default")]
    text = section(made([*rows(), *other]), "What it is bad at")
    assert "transfer" not in text


def test_opponents_alone():
    names = ("adamw", "sgdm")
    content = evaluation([row(name, NEAR[0], 1.0) for name in names], names)
    text = page(Sources(compact_evaluation(content)))
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Groups of tasks",
        "## What was measured",
        "## Every task",
        "## Commands",
    ]


def test_commands():
    text = section(made(), "Commands")
    assert "python -m meta_train evaluate --suites near far\npython docs/make_results.py" in text
    assert "somewhere" not in text
