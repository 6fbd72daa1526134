"""Results of the same readers on several tasks, beside each other."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meta_train.plot import figure_class
from meta_train.provenance import command
from meta_train.reading.pictures import save_figures
from meta_train.reading.report import DIGITS
from meta_train.reading.results import Row, Table
from meta_train.table import table_lines


def write_summary(
    out: Path,
    title: str,
    tables: Mapping[str, Table],
    notes: list[str],
    echo: Callable[[str], None],
) -> None:
    """Write `summary.md`, `summary.json` and, with matplotlib, `summary.png`.

    Args:
        out: their folder.
        title: the heading.
        tables: by the task.
        notes: paragraphs that stand first.
        echo: shows the text.
    """
    text = markdown(title, tables, [*notes, f"Made by `{command()}`."])
    plain = {
        "command": command(),
        "tables": {task: asdict(table) for task, table in tables.items()},
    }
    (out / "summary.md").write_text(text, "utf-8")
    (out / "summary.json").write_text(json.dumps(plain, indent=1), "utf-8")
    if find_spec("matplotlib"):
        save_figures({"summary": draw(tables)}, out)
    echo(f"\n{text}\nWritten to {out}.")


def markdown(title: str, tables: Mapping[str, Table], notes: list[str]) -> str:
    """One table: a row for each reader, a column with the first score of each task."""
    readers = _readers(tables)
    head = ["", *(f"{task}: {table.scores[0]}" for task, table in tables.items())]
    rows = [[reader, *(_cell(table, reader) for table in tables.values())] for reader in readers]
    lines = [f"# {title}", ""]
    for note in notes:
        lines += [note, ""]
    lines += ["Test split. ±: standard deviation over seeds.", "", *table_lines(head, rows)]
    return "\n".join([*lines, ""])


def draw(tables: Mapping[str, Table]) -> Any:
    """Draw the first score of each task: a bar for each reader, with its interval over runs."""
    readers = _readers(tables)
    figure = figure_class()(
        figsize=(2 + 2.6 * len(tables), 1 + 0.35 * len(readers)), dpi=120, layout="constrained"
    )
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for panel, (task, table) in zip(panels, tables.items(), strict=True):
        score = table.scores[0]
        for row in table.rows:
            place, found = readers.index(row.reader), row.test[score]
            color = "0.6" if row.baseline or row.reader == "constant" else "C0"
            panel.barh(place, found.value, color=color)
            panel.plot([found.low, found.high], [place, place], color="black", linewidth=1)
        panel.set_yticks(range(len(readers)), readers, fontsize=7)
        panel.set_title(task, fontsize=8)
        panel.set_xlabel(score, fontsize=7)
        panel.tick_params(axis="x", labelsize=6)
        panel.grid(axis="x", alpha=0.3, linewidth=0.5)
    panels[0].invert_yaxis()
    return figure


def _readers(tables: Mapping[str, Table]) -> list[str]:
    return list(dict.fromkeys(row.reader for table in tables.values() for row in table.rows))


def _cell(table: Table, reader: str) -> str:
    found: Row | None = next((row for row in table.rows if row.reader == reader), None)
    if found is None:
        return "-"
    score = table.scores[0]
    spread = found.spread[score]
    deviation = "" if spread is None else f" ± {spread:.{DIGITS}f}"
    return f"{found.test[score].value:.{DIGITS}f}{deviation}"
