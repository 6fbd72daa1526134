"""Pictures of results: curves, confusion tables, predicted against true, edited images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meta_train.plot import figure_class
from meta_train.reading.results import Result, Truth

COLUMNS = 4
LABELLED = 20
"""Number of classes up to which all have their names at a confusion table."""


def draw_curves(results: Sequence[Result], score: str) -> Any:
    """Draw a score on both splits over the epochs: each run, and baselines as lines.

    Args:
        results: of all runs.
        score: its name.

    Returns:
        A figure of matplotlib.
    """
    figure = figure_class()(figsize=(9, 4), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(result.reader for result in results))
    for split, panel in zip(("validation", "test"), panels, strict=True):
        seen: set[str] = set()
        for result in results:
            label = None if result.reader in seen else result.reader
            seen.add(result.reader)
            color = f"C{names.index(result.reader)}"
            heights = [entry[split][score] for entry in result.history]
            if result.baseline:
                panel.axhline(heights[-1], color=color, linestyle="--", label=label)
            else:
                epochs = [entry["epoch"] for entry in result.history]
                panel.plot(epochs, heights, color=color, label=label, linewidth=1.2)
        panel.set_title(f"{score} on {split}")
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3, linewidth=0.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_confusion(results: Sequence[Result], test: Truth, classes: Sequence[str]) -> Any:
    """Draw how often each class of the test split was taken for each other, in per cent.

    Args:
        results: one of each reader.
        test: the true classes.
        classes: their names.
    """
    figure, panels = _grid(len(results), 3.2)
    for result, panel in zip(results, panels, strict=False):
        counts = confusion(torch.tensor(result.predicted["test"]), test.values, len(classes))
        panel.imshow(counts.numpy(), vmin=0, vmax=1, cmap="Blues")
        panel.set_title(result.reader, fontsize=8)
        panel.set_xlabel("predicted", fontsize=7)
        panel.set_ylabel("true", fontsize=7)
        if len(classes) <= LABELLED:
            panel.set_xticks(range(len(classes)), classes, fontsize=6, rotation=90)
            panel.set_yticks(range(len(classes)), classes, fontsize=6)
            for (row, column), share in zip(
                ((i, j) for i in range(len(classes)) for j in range(len(classes))),
                counts.flatten().tolist(),
                strict=True,
            ):
                if share >= 0.005:
                    color = "white" if share > 0.5 else "black"
                    text = f"{100 * share:.0f}"
                    panel.text(column, row, text, ha="center", va="center", color=color, size=5)
    return figure


def confusion(predicted: Tensor, true: Tensor, classes: int) -> Tensor:
    """Share of each true class (rows) that was taken for each class, `(classes, classes)`."""
    pairs = true.long().cpu() * classes + predicted.long()
    counts = torch.bincount(pairs, minlength=classes**2).view(classes, classes).float()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def draw_scatter(results: Sequence[Result], test: Truth, name: str) -> Any:
    """Draw predicted against true numbers of the test split.

    Args:
        results: one of each reader.
        test: the true numbers.
        name: of the target.
    """
    figure, panels = _grid(len(results), 2.8)
    true = test.values.cpu()
    ends = [float(true.min()), float(true.max())]
    for result, panel in zip(results, panels, strict=False):
        panel.plot(true.numpy(), result.predicted["test"], ".", markersize=2, alpha=0.5)
        panel.plot(ends, ends, color="black", linewidth=0.8)
        panel.set_title(result.reader, fontsize=8)
        panel.set_xlabel(f"true {name}", fontsize=7)
        panel.set_ylabel(f"predicted {name}", fontsize=7)
        panel.tick_params(labelsize=6)
        panel.grid(alpha=0.3, linewidth=0.5)
    return figure


def draw_images(rows: Mapping[str, Tensor]) -> Any:
    """Draw images below each other.

    Args:
        rows: images of each row `(n, channels, height, width)` from 0 to 1, by its label.
    """
    count = max(len(images) for images in rows.values())
    figure = figure_class()(
        figsize=(1.2 + count, 1.05 * len(rows) + 0.2), dpi=120, layout="constrained"
    )
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (label, images) in zip(panels, rows.items(), strict=True):
        for panel, image in zip(line, images.clamp(0, 1).cpu(), strict=False):
            shown = image[0] if len(image) == 1 else image.permute(1, 2, 0)
            panel.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1)
        for panel in line:
            panel.set_xticks([])
            panel.set_yticks([])
        line[0].set_ylabel(label, fontsize=7, rotation=0, ha="right", va="center")
    return figure


def save_figures(figures: Mapping[str, Any], folder: Path) -> None:
    """Write figures as PNG.

    Args:
        figures: by the names of their files, without the ending.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def _grid(count: int, size: float) -> tuple[Any, Any]:
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = figure_class()(figsize=(size * columns, size * rows), dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels
