"""Where things stand in a picture of a graph, so that no text covers another."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import NodeSet, nodes_of

LINE = 0.14
"""Height of a line of text, in inches."""
LETTER = 0.075
"""Width of a letter, in inches."""
LONGEST = 20
"""Letters in a line, where a name can be broken."""
MARGIN = 0.3
"""Space between rows and around the picture, in inches."""
TURN = 0.12
"""Space that an arrow needs to turn, in inches."""


@dataclass(eq=False)
class Box:
    """A set of neurons. It spans the columns from where it first is used to where it last is."""

    nodes: NodeSet
    columns: list[int] = field(default_factory=list)
    notes: dict[int, list[str]] = field(default_factory=dict)
    row: int = 0
    y: float = 0.0

    @property
    def first(self) -> int:
        """First column."""
        return min(self.columns)

    @property
    def last(self) -> int:
        """Last column."""
        return max(self.columns)

    @property
    def half(self) -> float:
        """Half the height: it grows with the logarithm of the number of neurons."""
        return 0.12 + 0.03 * math.log2(self.nodes.size)

    @property
    def title(self) -> list[str]:
        """Its spaces, as lines of text."""
        return _wrap(" x ".join(self.nodes.spaces) or "(no neurons)")

    def spans(self, gap: int) -> bool:
        """Whether the box goes on from column `gap` to the next."""
        return self.first <= gap < self.last


@dataclass(eq=False)
class Arrow:
    """The bundles of a parameter between two boxes, from column `gap` to the next.

    Its label, `lines`, stands in the row of the box `home`.
    """

    gap: int
    source: Box
    target: Box
    lines: list[str]
    home: Box

    @property
    def under(self) -> bool:
        """Whether the label stands under its row: beside the arrow, where the arrow is not."""
        other = self.source if self.home is self.target else self.target
        if self.home.spans(self.gap):
            return other.row < self.home.row
        return other.row > self.home.row

    @property
    def clearance(self) -> float:
        """Distance between the middle of the row and the label."""
        loop = 2 * TURN if self.source is self.target else 0.0
        return 0.04 + (self.home.half if self.home.spans(self.gap) else 0.0) + loop


@dataclass
class Picture:
    """All boxes and arrows, the edges of the columns, and the size of the picture, in inches."""

    boxes: list[Box]
    arrows: list[Arrow]
    lefts: list[float]
    rights: list[float]
    width: float
    height: float


def place(graph: NeuralGraph) -> Picture:
    """Place a graph's sets of neurons in columns and rows.

    Each parameter that leads from neurons to neurons gets a gap between two columns to itself, in
    the order of their depths. A set of neurons spans the columns from the first gap that it touches
    to the last; sets that share a column stand in different rows.
    """
    boxes, arrows = _arrange(graph)
    lefts, rights = _columns(boxes, arrows)
    height = _rows(boxes, arrows)
    return Picture(boxes, arrows, lefts, rights, max([2.0, *rights]) + MARGIN, height)


def _arrange(graph: NeuralGraph) -> tuple[list[Box], list[Arrow]]:
    """Give each parameter with two ends a gap between columns, and each box columns and a row."""
    nodes = nodes_of(graph)
    boxes = [Box(item) for item in nodes.sets]
    ends: dict[str, list[tuple[Box, Box]]] = {}
    for bundle, source, target in zip(graph.bundles, nodes.sources, nodes.targets, strict=True):
        ends.setdefault(bundle.parameter, []).append((boxes[source], boxes[target]))
    order = sorted(ends, key=lambda name: graph.layouts[name].depth)
    wired = [name for name in order if not ends[name][0][0].nodes.source]
    arrows = []
    for gap, name in enumerate(wired):
        arrows += _arrows(gap, name, ends[name])
        for before, after in ends[name]:
            before.columns.append(gap)
            after.columns.append(gap + 1)
    depths = [graph.layouts[name].depth for name in wired]
    for name in (name for name in order if name not in wired):
        column = sum(depth <= graph.layouts[name].depth for depth in depths)
        for box in dict.fromkeys(box for _, box in ends[name]):
            box.columns = box.columns or [column]
            near = min(max(column, box.first), box.last)
            box.notes.setdefault(near, []).extend(_wrap(name))
    boxes = [box for box in boxes if not box.nodes.source]
    _stack(boxes)
    for arrow in arrows:
        arrow.home = _home(arrow, [other for other in arrows if other.gap == arrow.gap])
    return boxes, arrows


def _arrows(gap: int, name: str, ends: Sequence[tuple[Box, Box]]) -> list[Arrow]:
    parts: dict[tuple[Box, Box], list[str]] = {}
    for number, pair in enumerate(ends):
        parts.setdefault(pair, []).append(str(number + 1))
    divided = len(parts) > 1
    arrows = []
    for (source, target), numbers in parts.items():
        part = [f"part {', '.join(numbers)}"] if divided else []
        arrows.append(Arrow(gap, source, target, _wrap(name) + part, target))
    return arrows


def _home(arrow: Arrow, beside: Sequence[Arrow]) -> Box:
    """The end whose row is free in the gap, and which no other arrow's label stands at."""

    def badness(box: Box) -> tuple[int, bool]:
        return sum(box in (a.source, a.target) for a in beside), box.spans(arrow.gap)

    return min(arrow.source, arrow.target, key=badness)


def _stack(boxes: Sequence[Box]) -> None:
    """Put boxes that are there at the same time in different rows, long ones lowest."""
    rows: list[set[int]] = []
    for box in sorted(boxes, key=lambda box: (box.first - box.last, box.first)):
        columns = set(range(box.first, box.last + 1))
        box.row = next((r for r, taken in enumerate(rows) if not columns & taken), len(rows))
        if box.row == len(rows):
            rows.append(set())
        rows[box.row] |= columns


def _wrap(name: str) -> list[str]:
    """Break a name into lines of at most `LONGEST` letters, where dots and spaces allow it."""
    lines = [""]
    for piece in re.split(r"(?<=[. ])", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > LONGEST:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _width(lines: Sequence[str]) -> float:
    return LETTER * max((len(line) for line in lines), default=0)


def _columns(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> tuple[list[float], list[float]]:
    """Left and right edges of the columns, so wide that no text leaves its column or gap."""
    count = 1 + max((box.last for box in boxes), default=-1)
    widths = [0.5] * count
    gaps = [0.0] * count
    for box in boxes:
        widths[box.first] = max(widths[box.first], _width(box.title))
        for column, lines in box.notes.items():
            widths[column] = max(widths[column], _width(lines))
    for arrow in arrows:
        gaps[arrow.gap] = max(gaps[arrow.gap], _width(arrow.lines) + 3 * TURN)
    lefts, rights = [], []
    x = MARGIN
    for width, gap in zip(widths, gaps, strict=True):
        lefts.append(x)
        rights.append(x + width)
        x += width + (gap or MARGIN)
    return lefts, rights


def _rows(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> float:
    """Set the heights of the boxes' centres; return the height of the picture."""
    count = 1 + max((box.row for box in boxes), default=-1)
    above, below = [0.0] * count, [0.0] * count
    for box in boxes:
        notes = max((len(lines) for lines in box.notes.values()), default=0)
        above[box.row] = max(above[box.row], box.half + LINE * len(box.title))
        below[box.row] = max(below[box.row], box.half + LINE * notes)
    for arrow in arrows:
        side = below if arrow.under else above
        needed = arrow.clearance + LINE * len(arrow.lines)
        side[arrow.home.row] = max(side[arrow.home.row], needed)
    y, centres = 0.0, []
    for up, down in zip(above, below, strict=True):
        centres.append(y + MARGIN + down)
        y = centres[-1] + up
    for box in boxes:
        box.y = centres[box.row]
    return y + 2 * MARGIN
