"""A comparison as Markdown tables."""

import math
from collections.abc import Sequence
from itertools import groupby

from meta_train.comparison import Comparison, Row, Summary, labelled


def markdown(comparison: Comparison) -> str:
    """For each suite, a table of the interquartile means over its tasks; then one of each task."""
    tasks = len(comparison.curves)
    lines = [
        f"Means over the problems of each task. Settings chosen by `{comparison.criterion}`. Steps "
        f"and speed-up: to the final training loss of `{comparison.reference}`, against its own; "
        "a rule that never gets there has a speed-up of 0. Worse: tasks whose final training loss "
        "is above the reference's by more than 2 %. Stalled: runs that hardly learn after a fifth "
        "of the steps, where the reference does.",
    ]
    if tasks < comparison.planned:
        lines += ["", f"**Not finished: {tasks} of {comparison.planned} tasks.**"]
    for suite, summaries in groupby(comparison.summaries, key=lambda summary: summary.suite):
        lines += _suite(suite, list(summaries))
    head = ["", "setting", "train loss", "held-out loss", "test loss", "test accuracy", "steps"]
    head += ["speed-up", "stalled", "diverged"]
    for _, of_task in groupby(comparison.rows, key=lambda row: (row.suite, row.task)):
        rows = list(of_task)
        budget = rows[0].budget
        lines += ["", f"## {labelled(rows[0].suite, rows[0].task)}", ""]
        lines += [f"{budget.steps} steps, {budget.problems} problems, seed {budget.seed}.", ""]
        lines += table_lines(head, [_cells(row) for row in rows])
    if any(row.at_edge for row in comparison.rows):
        lines += ["", "\\* The smallest or largest learning rate tried: others may be better."]
    return "\n".join([*lines, ""])


def line(row: Row) -> str:
    """One row as a line of text."""
    return (
        f"{labelled(row.suite, row.task)}: {row.contestant} ({row.setting}): "
        f"train {_number(row.train)}, test {_number(row.test)}, speed-up {row.speed_up:.2f}"
    )


def _suite(suite: str, summaries: Sequence[Summary]) -> list[str]:
    tasks = summaries[0].tasks
    over = f"interquartile means over {tasks} task{'s' * (tasks > 1)}"
    head = ["", "train loss", "test loss", "test accuracy", "speed-up"]
    rows = [
        [
            f"`{s.contestant}`",
            *map(_number, (s.relative_train, s.relative_test, s.accuracy)),
            f"{s.speed_up:.2f}",
            *map(str, (s.worse, s.stalled, s.diverged)),
        ]
        for s in summaries
    ]
    return [
        "",
        f"## {labelled(suite, over)}",
        "",
        "Losses in units of the untrained model's.",
        "",
        *table_lines([*head, "worse", "stalled", "diverged"], rows),
    ]


def _cells(row: Row) -> list[str]:
    error = "" if math.isnan(row.error) else f" ± {_number(row.error)}"
    return [
        f"`{row.contestant}`",
        row.setting + r" \*" * row.at_edge,
        _number(row.train) + error,
        *map(_number, (row.held_out, row.test, row.accuracy)),
        "never" if row.steps is None else str(row.steps),
        f"{row.speed_up:.2f}",
        str(row.stalled),
        str(row.diverged),
    ]


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; all columns but the first are flush right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, rule, *rows)]
    return ["| " + " | ".join(cells) + " |" for cells in escaped]
