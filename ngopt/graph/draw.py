"""A picture of a graph: sets of neurons as boxes from left to right, bundles as arrows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ngopt.graph.blocks import collapse
from ngopt.graph.picture_layout import (
    CONTINUED,
    LETTER,
    LINE,
    MARGIN,
    TURN,
    Arrow,
    Band,
    Box,
    Picture,
    place,
)
from ngopt.graph.structure import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT = 8
HIDDEN, PINNED, EDGE, NOTE = "#9ecae1", "#d9d9d9", "#404040", "#606060"


def draw(graph: Structure, ax: Axes | None = None, *, full: bool = False) -> Axes:
    """Draw a graph: boxes are sets of neurons, arrows are parameters, in the order of their use.

    The height of a box grows with the logarithm of its number of neurons; hidden ones are blue,
    pinned ones grey. A set that is read or written several times, such as a residual stream, is a
    long box. Parameters without input neurons (biases, norms) are listed below their neurons.
    Repeated blocks are drawn once, in a dashed frame that says how many there are. A wide picture
    goes on in further rows.

    Args:
        graph: the graph, a :class:`ngopt.NeuralGraph`.
        ax: matplotlib axes to draw into; by default new ones in a figure of fitting size, at most
            14 inches wide.
        full: whether to draw every block.

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
    picture = place(graph) if full else place(*collapse(graph))
    key = _key(picture)
    height = picture.height + 2 * LINE * len(key) + MARGIN / 2
    if ax is None:
        figure = Figure(figsize=(picture.width, height), dpi=100)
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, picture.width), ylim=(0, height))
    ax.set_axis_off()
    for band in picture.bands:
        _paint_band(ax, band)
    for number, line in enumerate(key):
        for x, text, colour in line:
            style = {"facecolor": colour, "edgecolor": EDGE, "linewidth": 0.8} if colour else None
            y = height - MARGIN / 2 - (2 * number + 0.5) * LINE
            ax.text(x, y, text, fontsize=FONT, va="center", bbox=style)
    return ax


def _key(picture: Picture) -> list[list[tuple[float, str, str]]]:
    """What the signs mean, in lines that fit: where a text begins, the text, and its colour."""
    frames = any(band.frames for band in picture.bands)
    signs = [
        ("hidden neurons", HIDDEN),
        ("pinned neurons", PINNED),
        ("in a box: their number", ""),
        ("arrow: weights", ""),
        ("below a box: biases, norms", ""),
        ("dashed frame: repeated block" if frames else "", ""),
        (f"{CONTINUED} from the row above" if len(picture.bands) > 1 else "", ""),
    ]
    lines: list[list[tuple[float, str, str]]] = [[]]
    x = MARGIN
    for text, colour in signs:
        if x + LETTER * len(text) > picture.width and lines[-1]:
            lines.append([])
            x = MARGIN
        if text:
            lines[-1].append((x, text, colour))
            x += LETTER * len(text) + MARGIN
    return lines


def _paint_band(ax: Axes, band: Band) -> None:
    from matplotlib.patches import Rectangle

    for frame in band.frames:
        left = band.lefts[frame.first] - MARGIN / 2 + 0.04 * frame.depth
        right = band.rights[frame.last] + MARGIN / 2 - 0.04 * frame.depth
        bottom = band.bottom + MARGIN / 4 + 0.04 * frame.depth
        top = band.top - 1.5 * LINE * frame.depth
        size = (right - left, top - bottom)
        dashed: dict[str, Any] = {
            "fill": False,
            "linestyle": "--",
            "edgecolor": EDGE,
            "linewidth": 0.8,
        }
        ax.add_patch(Rectangle((left, bottom), *size, zorder=0, **dashed))
        ax.text(left + MARGIN / 2, top - 0.04, frame.title, fontsize=FONT, va="top", weight="bold")
    for box in band.boxes:
        _paint_box(ax, box, band)
    for arrow in band.arrows:
        _paint_arrow(ax, arrow, band.rights[arrow.gap], band.lefts[arrow.gap + 1])


def _paint_box(ax: Axes, box: Box, band: Band) -> None:
    from matplotlib.patches import FancyBboxPatch

    lefts, rights = band.lefts, band.rights
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
    _write(ax, middle, box.y, [box.sizes], "center")
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
