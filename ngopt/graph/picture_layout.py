"""Layout of a picture of a graph: positions of boxes and texts, without overlaps."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ngopt.graph.blocks import Repeat
from ngopt.graph.nodes import NodeSet, nodes_of
from ngopt.graph.structure import Structure
from ngopt.graph.summary import joined

LINE = 0.14
"""Height of a line of text, in inches."""
LETTER = 0.07
"""Width of a letter, in inches."""
LONGEST = 16
"""Letters in a line, where a name can be broken."""
MARGIN = 0.22
"""Space between rows and around the picture, in inches."""
TURN = 0.12
"""Space that an arrow needs to turn, in inches."""
WIDEST = 13.4
"""Width of a band of the picture, in inches: with margins, a screen of 1400 pixels at 100 dpi."""

CONTINUED = "\N{HORIZONTAL ELLIPSIS}"
"""Stands before the name of a box that goes on from the band above."""

Blocks: TypeAlias = tuple[Repeat, ...]
"""The repeated blocks around something, outer ones first."""


@dataclass(eq=False)
class Box:
    """A set of neurons. It spans the columns from where it first is used to where it last is.

    `sizes` is the number of neurons in words; `again` says that it goes on from the band above.
    """

    nodes: NodeSet
    sizes: str
    columns: list[int] = field(default_factory=list)
    notes: dict[int, list[str]] = field(default_factory=dict)
    again: bool = False
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
        return 0.11 + 0.02 * math.log2(self.nodes.size)

    @property
    def title(self) -> list[str]:
        """Its spaces, as lines of text."""
        name = " x ".join(self.nodes.spaces) or "(no neurons)"
        return _wrap(f"{CONTINUED} {name}" if self.again else name)

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


@dataclass(eq=False)
class Frame:
    """Around a repeated block, or around what is of it in one band.

    It encloses the columns from `first` to `last`; `depth` counts the frames around it.
    """

    title: str
    first: int
    last: int
    depth: int


@dataclass
class Band:
    """A row of the picture that is read from left to right, like a line of text.

    Args:
        boxes: the sets of neurons in it; one that is in several bands has a box in each.
        arrows: the parameters in it.
        frames: the repeated blocks in it.
        lefts: left edges of its columns, by their numbers, in inches from the left of the picture.
        rights: right edges.
        bottom: lower edge, in inches from the bottom of the picture.
        top: upper edge, with space for the titles of frames below it.
    """

    boxes: list[Box]
    arrows: list[Arrow]
    frames: list[Frame]
    lefts: dict[int, float]
    rights: dict[int, float]
    bottom: float = 0.0
    top: float = 0.0


@dataclass
class Picture:
    """All bands, from top to bottom, and the size of the picture, in inches."""

    bands: list[Band]
    width: float
    height: float


def place(graph: Structure, repeats: Blocks = (), widest: float = WIDEST) -> Picture:
    """Place a graph's sets of neurons in columns and rows.

    Each parameter that leads from neurons to neurons gets a gap between two columns to itself, in
    the order of their depths. A set of neurons spans the columns from the first gap that it touches
    to the last; sets that share a column stand in different rows. Where the picture would be too
    wide, it goes on in a new band below, which begins with the column that ends the band above.

    Args:
        graph: the graph.
        repeats: its blocks that stand for several each; a frame is put around them.
        widest: how wide a band may be, in inches, unless a single parameter needs more.
    """
    boxes, arrows, columns = _arrange(graph, repeats)
    bands = _cut(boxes, arrows, columns, widest)
    while len(bands) > 1:  # of about the same length
        shorter = _cut(boxes, arrows, columns, _right(bands) - 0.1)
        if len(shorter) > len(bands) or _right(shorter) >= _right(bands):
            break
        bands = shorter
    top = 0.0
    for band in reversed(bands):
        band.bottom = top
        top = band.top = _rows(band)
    return Picture(bands, max(2.0, _right(bands)) + MARGIN, top + MARGIN / 2)


def _arrange(graph: Structure, repeats: Blocks) -> tuple[list[Box], list[Arrow], list[Blocks]]:
    """Give each parameter with two ends a gap between columns, and each box its columns.

    Returns:
        The boxes, the arrows, and the blocks around each column.
    """
    nodes = nodes_of(graph)
    sizes = [" x ".join(str(graph.spaces[n].size) for n in item.spaces) for item in nodes.sets]
    boxes = [Box(item, size or "1") for item, size in zip(nodes.sets, sizes, strict=True)]
    ends: dict[str, list[tuple[Box, Box]]] = {}
    for bundle, source, target in zip(graph.bundles, nodes.sources, nodes.targets, strict=True):
        ends.setdefault(bundle.parameter, []).append((boxes[source], boxes[target]))
    depths = {name: graph.layouts[name].depth for name in ends}
    order = sorted(ends, key=depths.__getitem__)
    gaps, columns = _gaps([n for n in order if not ends[n][0][0].nodes.source], repeats)
    arrows = []
    for name, gap in gaps.items():
        arrows += _arrows(gap, _module(_short(name, repeats)), ends[name])
        for before, after in ends[name]:
            before.columns.append(gap)
            after.columns.append(gap + 1)
    for name in (name for name in order if name not in gaps):
        column = 1 + max((g for n, g in gaps.items() if depths[n] <= depths[name]), default=-1)
        for box in dict.fromkeys(box for _, box in ends[name]):
            box.columns = box.columns or [column]
            span = range(box.first, box.last + 1)
            right = [c for c in span if columns[c : c + 1] == [_around(name, repeats)]]
            near = min(right or span, key=lambda c: abs(c - column))
            box.notes.setdefault(near, []).append(_short(name, repeats))
    for box in boxes:
        box.notes = {column: _by_module(names) for column, names in box.notes.items()}
    return [box for box in boxes if not box.nodes.source], arrows, columns


def _gaps(wired: Sequence[str], repeats: Blocks) -> tuple[dict[str, int], list[Blocks]]:
    """A gap for each parameter, one more where blocks begin or end, and the blocks by column."""
    gaps: dict[str, int] = {}
    columns: list[Blocks] = [()]
    for name in wired:
        around = _around(name, repeats)
        if around != columns[-1]:
            columns.append(around)
        gaps[name] = len(columns) - 1
        columns.append(around)
    if columns[-1]:
        columns.append(())
    return gaps, columns


def _around(name: str, repeats: Blocks) -> Blocks:
    return tuple(repeat for repeat in repeats if name in repeat.tensors)


def _short(name: str, repeats: Blocks) -> str:
    """A name without what the frame around it tells."""
    return name[max((len(repeat.prefix) for repeat in _around(name, repeats)), default=0) :]


def _module(name: str) -> str:
    """Name of a weight without its last part, where the rest tells it."""
    module, _, last = name.rpartition(".")
    told = last == "weight" and module and not module.split(".")[-1].isdigit()
    return module if told else name


def _by_module(names: Iterable[str]) -> list[str]:
    """Lines of text that name tensors, those of a module together."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(name.rpartition(".")[0] or name, []).append(name)
    texts = [
        module if members == [f"{module}.weight", f"{module}.bias"] else joined(members)
        for module, members in modules.items()
    ]
    return [line for text in texts for line in _wrap(_module(text))]


def _cut(
    boxes: Sequence[Box], arrows: Sequence[Arrow], columns: Sequence[Blocks], widest: float
) -> list[Band]:
    """Cut the picture into bands that are narrow enough, at columns."""
    last = max((box.last for box in boxes), default=0)
    bands: list[Band] = []
    seen: set[NodeSet] = set()
    start = 0
    while start < last or not bands:
        end = min(start + 1, last)
        band = _band(boxes, arrows, columns, range(start, end + 1), seen)
        for further in range(end + 1, last + 1):
            longer = _band(boxes, arrows, columns, range(start, further + 1), seen)
            if longer.rights[further] > widest:
                break
            if further == last or len(columns[further]) <= len(columns[further - 1]):
                end, band = further, longer  # no cut right after a block has begun
        bands.append(band)
        seen |= {box.nodes for box in band.boxes}
        start = end
    return bands


def _band(
    boxes: Iterable[Box],
    arrows: Iterable[Arrow],
    columns: Sequence[Blocks],
    covered: range,
    seen: set[NodeSet],
) -> Band:
    """What stands in the covered columns and between them; the next band begins with the last."""
    start, end = covered[0], covered[-1]
    within = [arrow for arrow in arrows if start <= arrow.gap < end]
    pieces: dict[Box, Box] = {}
    for box in boxes:
        used = {arrow.gap for arrow in within if arrow.source is box}
        used |= {arrow.gap + 1 for arrow in within if arrow.target is box}
        used |= {column for column in (start, end - 1) if box.spans(column)}
        used |= {column + 1 for column in (start, end - 1) if box.spans(column)}
        notes = {c: box.notes[c] for c in covered[min(start, 1) :] if c in box.notes}
        if used or notes:
            pieces[box] = Box(
                box.nodes, box.sizes, sorted(used | {*notes}), notes, box.nodes in seen
            )
    here = [
        Arrow(a.gap, pieces[a.source], pieces[a.target], a.lines, pieces[a.target]) for a in within
    ]
    _stack(list(pieces.values()))
    for arrow in here:
        arrow.home = _home(arrow, [other for other in here if other.gap == arrow.gap])
    frames = _frames(columns, covered)
    return Band(
        list(pieces.values()), here, frames, *_columns(pieces.values(), here, frames, covered)
    )


def _frames(columns: Sequence[Blocks], covered: range) -> list[Frame]:
    """Frames around the runs of columns that are in the same block and have a gap between them."""
    frames: list[Frame] = []
    for repeat in dict.fromkeys(repeat for column in covered for repeat in columns[column]):
        run: list[int] = []
        for column in (*covered, None):
            if column is not None and repeat in columns[column]:
                run.append(column)
                continue
            if len(run) > 1:
                depth = columns[run[0]].index(repeat)
                frames.append(Frame(repeat.title, run[0], run[-1], depth))
            run = []
    return frames


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
    """Break a name where dots and spaces allow it, into few lines of about the same length."""
    lines = _filled(name, LONGEST)
    for longest in range(LONGEST - 1, 0, -1):
        narrower = _filled(name, longest)
        if len(narrower) > len(lines):
            break
        lines = narrower
    return lines


def _filled(name: str, longest: int) -> list[str]:
    """Lines of at most so many letters, where possible."""
    lines = [""]
    for piece in re.split(r"(?<=[. ])", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > longest:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _width(lines: Sequence[str]) -> float:
    return LETTER * max((len(line) for line in lines), default=0)


def _columns(
    boxes: Iterable[Box], arrows: Sequence[Arrow], frames: Sequence[Frame], covered: range
) -> tuple[dict[int, float], dict[int, float]]:
    """Left and right edges of the columns, so wide that no text leaves its column or gap."""
    widths, gaps = dict.fromkeys(covered, TURN), dict.fromkeys(covered, MARGIN)
    for box in boxes:
        widths[box.first] = max(widths[box.first], _width([*box.title, f" {box.sizes} "]))
        for column, lines in box.notes.items():
            widths[column] = max(widths[column], _width(lines))
    for arrow in arrows:
        gaps[arrow.gap] = max(gaps[arrow.gap], _width(arrow.lines) + 3 * TURN)
    for frame in frames:
        inside = sum(widths[c] + gaps[c] for c in range(frame.first, frame.last))
        widths[frame.last] = max(widths[frame.last], _width([frame.title]) - inside)
    lefts, rights = {}, {}
    x = MARGIN
    for column in covered:
        lefts[column] = x
        rights[column] = x + widths[column]
        x = rights[column] + gaps[column]
    return lefts, rights


def _right(bands: Sequence[Band]) -> float:
    return max((right for band in bands for right in band.rights.values()), default=0.0)


def _rows(band: Band) -> float:
    """Set the heights of the boxes' centres; return the upper edge of the band."""
    count = 1 + max((box.row for box in band.boxes), default=-1)
    above, below = [0.0] * count, [0.0] * count
    for box in band.boxes:
        notes = max((len(lines) for lines in box.notes.values()), default=0)
        above[box.row] = max(above[box.row], box.half + LINE * len(box.title))
        below[box.row] = max(below[box.row], box.half + LINE * notes)
    for arrow in band.arrows:
        side = below if arrow.under else above
        needed = arrow.clearance + LINE * len(arrow.lines)
        side[arrow.home.row] = max(side[arrow.home.row], needed)
    y, centres = band.bottom, []
    for up, down in zip(above, below, strict=True):
        centres.append(y + MARGIN + down)
        y = centres[-1] + up
    for box in band.boxes:
        box.y = centres[box.row]
    titles = 1 + max((frame.depth for frame in band.frames), default=-1)
    return y + titles * 1.5 * LINE
