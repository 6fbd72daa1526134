"""A comparison as Markdown tables."""

import math
from collections.abc import Sequence
from itertools import groupby

from meta_train.comparison import Comparison, Row


def markdown(comparison: Comparison) -> str:
    """Table of the interquartile means over tasks, then one of each task."""
    budget = comparison.budget
    tasks = len(comparison.curves)
    lines = [
        f"After {budget.steps} steps; means over {budget.problems} problems of each task (seed "
        f"{budget.seed}). Settings chosen by `{comparison.criterion}`. Steps and speed-up: to the "
        f"final training loss of `{comparison.reference}`, against its own; "
        "a rule that never gets there has a speed-up of 0.",
        "",
        f"## Interquartile means over {tasks} task{'s' * (tasks > 1)}",
        "",
        "Losses in units of the untrained model's.",
        "",
        *_table(
            ["", "train loss", "test loss", "test accuracy", "speed-up", "diverged"],
            [
                [
                    f"`{s.contestant}`",
                    *map(_number, (s.relative_train, s.relative_test, s.accuracy)),
                    f"{s.speed_up:.2f}",
                    str(s.diverged),
                ]
                for s in comparison.summaries
            ],
        ),
    ]
    head = ["", "setting", "train loss", "held-out loss", "test loss", "test accuracy", "steps"]
    for task, rows in groupby(comparison.rows, key=lambda row: row.task):
        cells = [_cells(row) for row in rows]
        lines += ["", f"## {task}", "", *_table([*head, "speed-up", "diverged"], cells)]
    if any(row.at_edge for row in comparison.rows):
        lines += ["", "\\* The smallest or largest learning rate tried: others may be better."]
    return "\n".join([*lines, ""])


def line(row: Row) -> str:
    """One row as a line of text."""
    return (
        f"{row.task}: {row.contestant} ({row.setting}): train {_number(row.train)}, "
        f"test {_number(row.test)}, speed-up {row.speed_up:.2f}"
    )


def _cells(row: Row) -> list[str]:
    error = "" if math.isnan(row.error) else f" ± {_number(row.error)}"
    return [
        f"`{row.contestant}`",
        row.setting + r" \*" * row.at_edge,
        _number(row.train) + error,
        *map(_number, (row.held_out, row.test, row.accuracy)),
        "never" if row.steps is None else str(row.steps),
        f"{row.speed_up:.2f}",
        str(row.diverged),
    ]


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, rule, *rows)]
    return ["| " + " | ".join(cells) + " |" for cells in escaped]
