import math
import re
from dataclasses import replace

import pytest

from meta_train.comparison import Comparison, Row, Summary
from meta_train.curves import Budget
from meta_train.table import line, markdown

ROW = Row(
    suite="near",
    task="mlp(width=8)",
    budget=Budget(100, 3, 7),
    contestant="adamw",
    setting="lr 0.01 cosine",
    at_edge=False,
    train=0.5,
    error=0.125,
    relative_train=0.25,
    held_out=0.75,
    test=1.25,
    relative_test=0.625,
    accuracy=0.875,
    worse=False,
    stalled=0,
    diverged=0,
    steps=100,
    speed_up=1.0,
)
SUMMARY = Summary("near", "adamw", 2, 0.25, 0.625, 0.875, 1.0, 3, 4, 5)
OURS = replace(ROW, contestant="NGT:positions=depth|fans", steps=None, speed_up=0.0)
OURS = replace(OURS, stalled=1, diverged=2)


def table(rows=(ROW, OURS), summaries=(SUMMARY,), criterion="train", planned=1):
    curves = {row.task: {} for row in rows}
    return markdown(Comparison("adamw", criterion, planned, rows, summaries, curves))


def cells(text):
    """Cells of each line of the tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_row_has_the_columns_of_its_head():
    widths = [len(row) for row in cells(table())]
    assert widths == [8] * 3 + [10] * 4


def test_figures_of_a_row():
    assert cells(table())[5] == [
        "`adamw`",
        "lr 0.01 cosine",
        "0.5000 ± 0.1250",
        "0.7500",
        "1.2500",
        "0.8750",
        "100",
        "1.00",
        "0",
        "0",
    ]
    ours = cells(table())[6]
    assert ours[0] == r"`NGT:positions=depth\|fans`"
    assert ours[-4:] == ["never", "0.00", "1", "2"]


def test_summary():
    assert cells(table())[2] == ["`adamw`", "0.2500", "0.6250", "0.8750", "1.00", *"345"]


def test_what_the_figures_mean_is_said():
    text = table(criterion="accuracy")
    for said in ("100 steps", "3 problems", "seed 7", "`accuracy`", "loss of `adamw`", "2 %"):
        assert said in text


def test_a_table_of_each_task():
    other = replace(ROW, task="quadratic(size=4)", suite="")
    summaries = (SUMMARY, replace(SUMMARY, suite="", tasks=1))
    text = table(rows=(ROW, OURS, other), summaries=summaries)
    assert [line for line in text.splitlines() if line.startswith("##")] == [
        "## near: interquartile means over 2 tasks",
        "## interquartile means over 1 task",
        "## near: mlp(width=8)",
        "## quadratic(size=4)",
    ]


def test_says_how_much_is_missing():
    two = (ROW, replace(ROW, task="quadratic"))
    assert "**Not finished: 2 of 5 tasks.**" in table(rows=two, planned=5)
    assert "Not finished" not in table(rows=two, planned=2)


def test_edges_are_marked():
    assert r"\*" not in table()
    text = table(rows=(replace(ROW, at_edge=True), OURS))
    assert cells(text)[5][1] == r"lr 0.01 cosine \*"
    assert "others may be better" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (math.nan, "-"), (0.0, "0.0000"), (2.5e-7, "2.5e-07"), (123456.0, "1.23e+05")],
)
def test_numbers_of_any_size(value, shown):
    assert cells(table(rows=(replace(ROW, accuracy=value),)))[5][5] == shown


def test_error_of_a_single_problem():
    assert cells(table(rows=(replace(ROW, error=math.nan),)))[5][2] == "0.5000"


def test_line():
    assert line(ROW) == (
        "near: mlp(width=8): adamw (lr 0.01 cosine): train 0.5000, test 1.2500, speed-up 1.00"
    )
