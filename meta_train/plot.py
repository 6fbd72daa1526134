"""Pictures of inner training curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import torch

from meta_train.curves import smoothed
from meta_train.errors import MetaTrainError

WIDTH, HEIGHT, COLUMNS = 5.0, 3.5, 3
LETTERS = 75
"""Number of letters of a small font that stand above a panel."""


def plot(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw training losses, one panel per task, averaged over a tenth of the steps.

    Args:
        curves: losses after each step, by task and contestant.
        path: of the picture, such as `curves.png`.

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
    columns = min(COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), dpi=120, layout="constrained")
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
