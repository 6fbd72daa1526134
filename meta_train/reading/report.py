"""Results of networks that read networks as Markdown."""

from meta_train.reading.results import Row, Table
from meta_train.reading.scores import Interval
from meta_train.table import table_lines

DIGITS = 4
"""Decimal places of scores."""


def markdown(table: Table, title: str, notes: list[str], planned: int) -> str:
    """Tables of all readers, and of their differences.

    Args:
        table: the figures.
        title: the heading.
        notes: paragraphs that stand first.
        planned: number of runs when all are done.
    """
    lines = [f"# {title}", ""]
    for note in notes:
        lines += [note, ""]
    done = sum(len(row.seeds) for row in table.rows if not row.baseline)
    if done < planned:
        lines += [f"**Not finished: {done} of {planned} runs.**", ""]
    first = table.scores[0]
    lines += [
        f"The state with the best {first} on the validation split is kept, and measured on the "
        "test split. In brackets: 95 % bootstrap interval over runs. ±: standard deviation over "
        "seeds.",
        "",
        *_rows(table),
        "",
        f"## Differences in {first}",
        "",
        "Row minus column, on the same resampled runs; * where the interval excludes 0.",
        "",
        *_differences(table),
    ]
    return "\n".join([*lines, ""])


def _rows(table: Table) -> list[str]:
    head = ["", f"{table.scores[0]}, validation", *(f"{name}, test" for name in table.scores)]
    head += ["seeds", "weights", "training s", "networks/s"]
    return table_lines(head, [_cells(row, table.scores) for row in table.rows])


def _cells(row: Row, scores: tuple[str, ...]) -> list[str]:
    tested = []
    for name in scores:
        spread = row.spread[name]
        deviation = "" if spread is None else f" ± {spread:.{DIGITS}f}"
        tested.append(f"{interval(row.test[name])}{deviation}")
    cost = ["-"] * 3
    if not row.baseline:
        cost = [f"{row.weights:,}", f"{row.seconds:.0f}", f"{row.rate:,.0f}"]
    name = f"{row.reader} (baseline)" if row.baseline else f"`{row.reader}`"
    validation = f"{row.validation[scores[0]]:.{DIGITS}f}"
    return [name, validation, *tested, str(len(row.seeds)), *cost]


def _differences(table: Table) -> list[str]:
    names = [row.reader for row in table.rows]
    found = {(d.reader, d.other): d for d in table.differences}
    rows = []
    for place, reader in enumerate(names[1:], 1):
        cells = []
        for other in names[:-1]:
            difference = found.get((reader, other))
            if place <= names.index(other) or difference is None:
                cells.append("")
            else:
                cells.append(interval(difference.interval, "+") + r" \*" * difference.sure)
        rows.append([reader, *cells])
    return table_lines(["", *names[:-1]], rows)


def interval(found: Interval, sign: str = "") -> str:
    """Show a figure with its interval.

    >>> interval(Interval(0.5, 0.4, 0.625), "+")
    '+0.5000 [+0.4000, +0.6250]'
    """
    value, low, high = (f"{number:{sign}.{DIGITS}f}" for number in found)
    return f"{value} [{low}, {high}]"
