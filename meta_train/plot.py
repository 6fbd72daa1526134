"""Pictures of inner training curves, and of how much faster contestants are than the reference."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from meta_train.comparison import Comparison, Row
from meta_train.curves import smoothed
from meta_train.errors import MetaTrainError

WIDTH, HEIGHT, COLUMNS = 5.0, 3.5, 3
LETTERS = 75
"""Number of letters of a small font that stand above a panel."""

NEVER = 0.7
"""Where a speed-up of 0 is drawn, as a fraction of the smallest one above 0, at most 0.6."""

TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500)


def plot(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw training losses, one panel per task, averaged over a tenth of the steps.

    Args:
        curves: losses after each step, by task and contestant.
        path: of the picture, such as `curves.png`.

    Raises:
        MetaTrainError: if matplotlib is missing.
    """
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = figure_class()(figsize=(WIDTH * columns, HEIGHT * rows), dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for task, contestants in curves.items():
        panel = next(panels)
        for name, losses in contestants.items():
            panel.plot(
                range(1, len(losses) + 1), smoothed(torch.tensor(losses)), label=name, linewidth=1.2
            )
        panel.set_yscale("log")
        panel.set_xlabel("step")
        panel.set_ylabel("training loss")
        panel.set_title(fill(task, LETTERS), fontsize=7)
        panel.tick_params(which="both", labelsize=7)
        panel.grid(alpha=0.3, which="both", linewidth=0.5)
        panel.legend(fontsize=7)
    for panel in panels:
        panel.set_axis_off()
    figure.savefig(path)


def plot_speed_ups(comparison: Comparison, path: Path) -> None:
    """Draw the speed-up of each contestant, against the reference, on each task, suite by suite.

    A dot is a task, a bar an interquartile mean. A triangle at the bottom is a task on which the
    reference's final loss was never reached, or such a mean.

    Args:
        comparison: of the contestants.
        path: of the picture, such as `speed_ups.png`.

    Raises:
        MetaTrainError: if matplotlib is missing.
    """
    suites = list(dict.fromkeys(row.suite for row in comparison.rows))
    names = list(dict.fromkeys(row.contestant for row in comparison.rows))
    names.remove(comparison.reference)
    figure = figure_class()(figsize=(2 + 1.8 * len(suites), 4), dpi=150, layout="constrained")
    panel = figure.subplots()
    speeds = [row.speed_up for row in comparison.rows if row.speed_up > 0]
    bottom = NEVER * min(0.6, *speeds)
    panel.axhline(1, color="black", linewidth=1, label=comparison.reference)
    for number, name in enumerate(names):
        for place, suite in enumerate(suites):
            rows = [r for r in comparison.rows if (r.suite, r.contestant) == (suite, name)]
            (mean,) = (
                s.speed_up for s in comparison.summaries if (s.suite, s.contestant) == (suite, name)
            )
            left = place - 0.4 + 0.8 * number / len(names)
            _draw_speeds(panel, rows, mean, (left, left + 0.8 / len(names)), bottom, f"C{number}")
        panel.plot([], [], "o-", color=f"C{number}", label=name)
    panel.set_yscale("log")
    panel.set_ylim(0.9 * bottom, 1.2 * max(2.0, *speeds))
    ticks = [tick for tick in TICKS if bottom < tick < 1.2 * max(2.0, *speeds)]
    panel.set_yticks([bottom, *ticks], ["never", *(f"{tick:g}" for tick in ticks)])
    panel.set_yticks([], minor=True)
    panel.set_xticks(range(len(suites)), [suite or "tasks" for suite in suites])
    panel.set_ylabel("speed-up: steps to the same loss")
    panel.grid(axis="y", alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path)


def _draw_speeds(
    panel: Any,
    rows: Sequence[Row],
    mean: float,
    sides: tuple[float, float],
    bottom: float,
    color: str,
) -> None:
    """Draw the dots of a contestant in a suite, in the order of the tasks, and their mean."""
    left, right = sides
    for number, row in enumerate(rows):
        x = left + (right - left) * (number + 1) / (len(rows) + 1)
        marker = "o" if row.speed_up > 0 else "v"
        panel.plot(
            x, max(row.speed_up, bottom), marker, color=color, markersize=4, alpha=0.7, mew=0
        )
    panel.plot([left + 0.02, right - 0.02], [max(mean, bottom)] * 2, color=color, linewidth=2.5)


def figure_class() -> Any:
    """Return matplotlib's class of figures, without a window for them.

    Raises:
        MetaTrainError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MetaTrainError(
            "drawing curves needs matplotlib, which is not installed.\n"
            '  Install it with: pip install "ngopt[draw]"'
        ) from error
    return Figure
