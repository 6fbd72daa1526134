"""Draw docs/images/step.png: what the default rule does in a step, from gradients to weights.

Run it as `python docs/make_step.py`; the picture comes out the same each time.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PAGE = Path(__file__).resolve().parent / "images" / "step.png"
LEARNED, GIVEN = "#cfe2f7", "#ececec"
WIDTH, HEIGHT = 1.74, 0.96
"""Of a box; the figure is in inches."""

COLUMN, ROW = 2.0, 1.25
"""From the centre of one box to that of the next."""


class Box(NamedTuple):
    """A box of the picture.

    Args:
        x: its column.
        y: its row, from below.
        title: its first line, in bold.
        text: its other lines.
        colour: of its inside.
    """

    x: int
    y: int
    title: str
    text: str
    colour: str = GIVEN


BOXES = {
    "gradients": Box(0, 2, "gradients", "spikes scaled down,\nnot finite: no step"),
    "moments": Box(1, 2, "moments", "fast, slow, square:\n6 bytes per entry"),
    "base": Box(2, 2, "base direction", "matrices: orthogonal-\nized; all else: Adam's"),
    "direction": Box(3, 2, "direction", "base plus bounded\ncorrection"),
    "step": Box(4, 2, "step", "fan-in, weights, depth,\nagreement, age, lr"),
    "graph": Box(0, 1, "graph", "which rows and columns\nare the same neurons"),
    "features": Box(1, 1, "features", "of entries, of neurons,\nof tensors: scale-free"),
    "entry": Box(2, 1, "network of entries", "sees the entry and\nits two neurons", LEARNED),
    "scale": Box(3, 1, "scale of tensors", "from its features,\nbounded", LEARNED),
    "messages": Box(1, 0, "messages", "matrices times states\nof neurons", LEARNED),
}

ARROWS = (
    ("gradients", "moments"),
    ("moments", "base"),
    ("moments", "features"),
    ("graph", "features"),
    ("features", "entry"),
    ("features", "messages"),
    ("messages", "entry"),
    ("entry", "direction"),
    ("base", "direction"),
    ("direction", "step"),
    ("scale", "step"),
)


def draw_box(axes: Axes, box: Box) -> None:
    """Draw a box with its text."""
    x, y = COLUMN * box.x, ROW * box.y
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            "round,pad=0,rounding_size=0.08",
            facecolor=box.colour,
            edgecolor="#666666",
        )
    )
    axes.text(x, y + 0.27, box.title, ha="center", va="center", size=10, weight="bold")
    axes.text(x, y - 0.13, box.text, ha="center", va="center", size=9.5, linespacing=1.25)


def draw_arrow(axes: Axes, start: Box, end: Box) -> None:
    """Draw an arrow from one box to another: down, or to the right."""
    across, down = (0.0, -HEIGHT / 2) if start.x == end.x else (WIDTH / 2, 0.0)
    tail = COLUMN * start.x + across, ROW * start.y + down
    head = COLUMN * end.x - across, ROW * end.y - down
    arrow = FancyArrowPatch(
        tail, head, arrowstyle="-|>", mutation_scale=12, color="#444444", shrinkA=1, shrinkB=1
    )
    axes.add_patch(arrow)


def picture() -> Figure:
    """Draw all of it."""
    width, height = 5 * COLUMN, 3 * ROW
    figure = Figure(figsize=(width, height), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-COLUMN / 2, width - COLUMN / 2), ylim=(-ROW / 2, height - ROW / 2))
    axes.axis("off")
    for start, end in ARROWS:
        draw_arrow(axes, BOXES[start], BOXES[end])
    for box in BOXES.values():
        draw_box(axes, box)
    return figure


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE)
    out = parser.parse_args().out
    picture().savefig(out)
    print(f"Wrote {out}.")


if __name__ == "__main__":
    main()
