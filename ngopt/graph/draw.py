"""A picture of a graph: sets of neurons as boxes from left to right, bundles as arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.picture import MARGIN, TURN, Arrow, Box, Picture, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT = 8
HIDDEN, PINNED, EDGE, NOTE = "#9ecae1", "#d9d9d9", "#404040", "#606060"


def draw(graph: NeuralGraph, ax: Axes | None = None) -> Axes:
    """Draw a graph: boxes are sets of neurons, arrows are parameters, in the order of their use.

    The height of a box grows with the logarithm of its number of neurons; hidden ones are blue,
    pinned ones grey. A set that is read or written several times, such as a residual stream, is a
    long box. Parameters without input neurons (biases, norms) are listed below their neurons.

    Args:
        graph: the graph.
        ax: matplotlib axes to draw into; by default new ones in a figure of fitting size.

    Returns:
        The axes; `draw(graph).figure.savefig("graph.png")` stores the picture.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing a graph needs matplotlib, which is not installed.\n"
            '  Install it with: pip install "ngopt[draw]"'
        ) from error
    picture = place(graph)
    if ax is None:
        figure = Figure(figsize=(picture.width, picture.height), dpi=120)
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, picture.width), ylim=(0, picture.height))
    ax.set_axis_off()
    for box in picture.boxes:
        _paint_box(ax, graph, box, picture)
    for arrow in picture.arrows:
        _paint_arrow(ax, arrow, picture.rights[arrow.gap], picture.lefts[arrow.gap + 1])
    for x, colour, text in ((0.0, HIDDEN, "hidden"), (0.8, PINNED, "pinned")):
        key = {"facecolor": colour, "edgecolor": EDGE, "linewidth": 0.8}
        ax.text(MARGIN + x, picture.height - 0.25, text, fontsize=FONT, bbox=key)
    return ax


def _paint_box(ax: Axes, graph: NeuralGraph, box: Box, picture: Picture) -> None:
    from matplotlib.patches import FancyBboxPatch

    lefts, rights = picture.lefts, picture.rights
    left, right = lefts[box.first], rights[box.last]
    ax.add_patch(
        FancyBboxPatch(
            (left, box.y - box.half),
            right - left,
            2 * box.half,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=PINNED if box.nodes.pinned else HIDDEN,
            edgecolor=EDGE,
            linewidth=0.8,
            zorder=2,
        )
    )
    middle = (left + rights[box.first]) / 2
    sizes = " x ".join(str(graph.spaces[name].size) for name in box.nodes.spaces) or "1"
    _write(ax, middle, box.y, [sizes], "center")
    _write(ax, middle, box.y + box.half + 0.03, box.title, "bottom", weight="bold")
    for column, lines in box.notes.items():
        middle = (lefts[column] + rights[column]) / 2
        _write(ax, middle, box.y - box.half - 0.03, lines, "top", color=NOTE)


def _paint_arrow(ax: Axes, arrow: Arrow, left: float, right: float) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    path = Path(_curve(arrow, left, right), [Path.MOVETO] + [Path.CURVE4] * 3)
    ax.add_patch(
        FancyArrowPatch(
            path=path, arrowstyle="-|>", mutation_scale=9, color=EDGE, linewidth=1.0, zorder=1
        )
    )
    side = -1 if arrow.under else 1
    _write(
        ax,
        (left + right) / 2,
        arrow.home.y + side * arrow.clearance,
        arrow.lines,
        "top" if arrow.under else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _curve(arrow: Arrow, left: float, right: float) -> list[tuple[float, float]]:
    """Start, two control points and end of an arrow through the gap between `left` and `right`.

    It leaves and enters boxes that end at the gap by their sides, and those that go on by their top
    or bottom; in between it keeps to the edges of the gap, clear of the labels.
    """
    source, target = arrow.source, arrow.target
    near, far, middle = left + TURN, right - TURN, (left + right) / 2
    up = 1 if target.row >= source.row else -1
    leaves = source.y + up * source.half
    enters = target.y - up * target.half
    match source.spans(arrow.gap), target.spans(arrow.gap):
        case True, True if source is target:
            over = leaves + 2 * TURN
            return [(near, leaves), (near, over), (far, over), (far, leaves)]
        case True, True:
            halfway = (leaves + enters) / 2
            return [(near, leaves), (near, halfway), (near, halfway), (near, enters)]
        case True, False:
            return [(near, leaves), (near, target.y), (middle, target.y), (right, target.y)]
        case False, True:
            return [(left, source.y), (middle, source.y), (far, source.y), (far, enters)]
    elbow = far if arrow.home is source else near
    return [(left, source.y), (elbow, source.y), (elbow, target.y), (right, target.y)]


def _write(ax: Axes, x: float, y: float, lines: Sequence[str], side: str, **style: Any) -> None:
    ax.text(x, y, "\n".join(lines), ha="center", va=side, fontsize=FONT, zorder=3, **style)
