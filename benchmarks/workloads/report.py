"""Tables and curves of all workloads: each optimizer beside the recipe."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.pieces import write
from benchmarks.workloads.figures import REFERENCE, Curve, Row, rows, summaries
from benchmarks.workloads.optimizers import OPTIMIZERS
from benchmarks.workloads.run import Result
from benchmarks.workloads.workload import Workload
from meta_train.table import table_lines

CAPTION = (
    "Final metric: mean and standard deviation over seeds. Share of steps, of seconds: how much of "
    "the recipe's whole run it takes until the metric, averaged over seeds, is at least as good as "
    "the recipe's in the end; between evaluations the metric is taken to change linearly; `-` if "
    "it never is. Seconds are those of whole steps with forward and backward passes, without "
    "evaluations. Early rise: the largest loss in the first 50 steps over the first, of the worst "
    "seed; `-` where losses have no sign. Worse, better: the means differ by more than the larger "
    "of the two standard deviations; runs that diverge are worse. Cost: seconds of a step, over "
    "those of the recipe's. In the means over workloads (interquartile), a share of steps that is "
    "`-` counts as 1, and one of seconds as the cost, if that is more than 1, else as 1."
)


def results_in(folder: Path, workload: Workload) -> dict[str, list[Result]]:
    """Results of a workload by names of optimizers, in the order of :data:`OPTIMIZERS`.

    Only the longest runs count, should some have been tried with fewer steps.
    """
    found = [Result.read(path) for path in sorted((folder / workload.name).glob("*.json"))]
    longest = max((result.steps for result in found), default=0)
    by_name = {
        name: [r for r in found if r.optimizer == name and r.steps == longest]
        for name in OPTIMIZERS
    }
    return {name: results for name, results in by_name.items() if results}


def report(workloads: Sequence[Workload], folder: Path, out: Path) -> list[Row]:
    """Write tables, figures and curves of what there is.

    Args:
        workloads: in the order of the report; those without results are left out.
        folder: of results.
        out: path without ending.
    """
    curves: dict[str, dict[str, Curve]] = {}
    for workload in workloads:
        results = results_in(folder, workload)
        if results:
            curves[workload.name] = {name: Curve.of(runs) for name, runs in results.items()}
    known = [workload for workload in workloads if workload.name in curves]
    table = [row for workload in known for row in rows(workload, curves[workload.name])]
    content: dict[str, Any] = {
        "rows": [asdict(row) for row in table],
        "summaries": [asdict(summary) for summary in summaries(table)],
        "curves": {w: {o: asdict(c) for o, c in by.items()} for w, by in curves.items()},
    }
    write(out, content, markdown(known, table))
    if known:
        plot(known, curves, Path(f"{out}.png"))
    return table


def markdown(workloads: Sequence[Workload], table: Sequence[Row]) -> str:
    """The tables.

    Args:
        workloads: in order.
        table: rows of all of them.
    """
    lines = ["# Workloads", "", CAPTION]
    found = list(summaries(table))
    for task in dict.fromkeys(summary.task for summary in found):
        head = ["", "workloads", "worse", "better", "never", "steps", "seconds", "cost"]
        head += ["early rise"]
        cells = [
            [
                f"`{s.optimizer}`",
                *map(str, (s.workloads, s.worse, s.better, s.never)),
                *map(_cell, (s.steps, s.seconds, s.cost, s.early)),
            ]
            for s in found
            if s.task == task
        ]
        lines += ["", f"## Summary: {task}", "", *table_lines(head, cells)]
    for workload in workloads:
        own = [row for row in table if row.workload == workload.name]
        head = ["", workload.metric, "seeds", "steps", "seconds", "cost", "early rise", "verdict"]
        lines += ["", f"## {workload.title}", ""]
        lines += [_heading(workload, max(row.length for row in own)), ""]
        lines += table_lines(head, [_cells(row) for row in own])
    return "\n".join([*lines, ""])


def plot(
    workloads: Sequence[Workload], curves: Mapping[str, Mapping[str, Curve]], path: Path
) -> None:
    """Draw the mean metric of every optimizer over steps, a panel for each workload.

    Args:
        workloads: in order.
        curves: by names of workloads, then of optimizers.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(workloads))
    lines = math.ceil(len(workloads) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * lines + 1), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    colors = {name: f"C{number}" for number, name in enumerate(OPTIMIZERS)}
    drawn: dict[str, Any] = {}
    for axes, workload in zip(panels, workloads, strict=False):
        for name, curve in curves[workload.name].items():
            wide = 2.5 if name in (REFERENCE, "ngopt") else 1.2
            (line,) = axes.plot(curve.at, curve.mean, color=colors[name], lw=wide)
            drawn.setdefault(name, line)
        recipe = curves[workload.name].get(REFERENCE)
        if recipe is not None:
            axes.axhline(recipe.final, color="gray", lw=0.8, ls=":")
        axes.set_title(workload.title, fontsize="medium")
        axes.set_xlabel("steps")
        axes.set_ylabel(workload.metric)
    for axes in panels[len(workloads) :]:
        axes.set_axis_off()
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=2 * columns)
    figure.savefig(path)


def _heading(workload: Workload, length: int) -> str:
    short = "" if length == workload.steps else f", of which {length:,} were run"
    return (
        f"`{workload.name}`, {workload.steps:,} steps{short}, {workload.task}. "
        f"{'Higher' if workload.higher else 'Lower'} is better. {workload.source}"
    )


def _cells(row: Row) -> list[str]:
    final = f"{_cell(row.final)}{f' ± {row.spread:.2g}' if row.seeds > 1 else ''}"
    return [
        f"`{row.optimizer}`",
        f"{row.diverged} of {row.seeds} diverged" if row.diverged else final,
        str(row.seeds),
        *map(_cell, (row.steps, row.seconds, row.cost, row.early)),
        row.verdict or "-",
    ]


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3f}"
