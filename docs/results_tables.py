"""The tables of docs/results.md that come from the evaluation on rings."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from docs.results_figures import Result, Results, placed
from meta_train.comparison import Comparison, interquartile_mean
from meta_train.table import table_lines


def rings(comparison: Comparison, found: Mapping[str, Results]) -> list[str]:
    """A table over the rings, and its picture."""
    lines = []
    for ring, of_ring in groupby(comparison.summaries, key=lambda summary: summary.ring):
        for summary in of_ring:
            own = [r for r in found.get(summary.contestant, []) if r.row.ring == ring]
            lines.append(
                [
                    ring or "none",
                    f"`{summary.contestant}`",
                    f"{summary.speed_up:.2f}",
                    f"{interquartile_mean([r.ratio for r in own]):.3g}" if own else "1",
                    f"{interquartile_mean([r.test_ratio for r in own]):.3g}" if own else "1",
                    f"{summary.worse} of {summary.tasks}",
                    *map(str, (summary.stalled, summary.diverged)),
                ]
            )
    head = ["ring", "", "speed-up", "train loss", "test loss", "worse", "stalled", "diverged"]
    return [
        "",
        "## Rings",
        "",
        "Losses in units of the opponent's. Stalled, diverged: numbers of runs.",
        "",
        *table_lines(head, lines),
        "",
        "![Speed-up on each task, ring by ring](images/rings.png)",
        "",
        "A dot is a task, a bar an interquartile mean; triangles are at 0.",
    ]


def tasks(found: Mapping[str, Results], names: Mapping[str, str]) -> list[str]:
    """A table of each ring, with a line for each task.

    Args:
        found: results of each contestant, all on the same tasks.
        names: short ones of the tasks.
    """
    lines = [
        "",
        "## Every task",
        "",
        "The opponent's final training loss, and of each rule the speed-up and the final training "
        "loss in units of the opponent's, in bold where it is worse; † where runs have diverged or "
        "stalled. The names leave out what all tasks of an architecture have in common; in full "
        "they are in [results/evaluation.json](results/evaluation.json).",
    ]
    columns = list(found.values())
    keyed = groupby(range(len(columns[0])) if columns else [], lambda n: columns[0][n].row.ring)
    for ring, places in keyed:
        rows = []
        for place in places:
            first = columns[0][place]
            rows.append(
                [
                    names[first.row.task],
                    f"{first.row.budget.steps:,}",
                    f"{first.reference.train:.4g}",
                    *(_cell(results[place]) for results in columns),
                ]
            )
        head = ["task", "steps", "opponent", *(f"`{name}`" for name in found)]
        lines += ["", f"### {ring or 'Of no ring'}", "", *table_lines(head, rows)]
    return lines


def _cell(result: Result) -> str:
    ratio = f"{result.ratio:.3f}" if result.ratio < 10 else f"{result.ratio:.3g}"
    worse = f"**{ratio}**" if result.row.worse else ratio
    return f"{result.row.speed_up:.2f} · {worse}" + " †" * (result.lost > 0)


def curves(content: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The picture of curves, if there is one, and what is on it."""
    if not content["pictured"]:
        return []
    listed = "; ".join(placed(names[task], ring) for ring, task in content["pictured"])
    return [
        "",
        "## Curves",
        "",
        f"From the task on which the rule is fastest to the one on which it is slowest: {listed}.",
        "",
        "![Training losses on some of the tasks](images/curves.png)",
    ]
