"""A graph in words: its spaces, its parameters, and what tracing could not tell."""

from collections.abc import Iterable, Mapping, Sequence

from ngopt.graph.blocks import Repeat, collapse, counts
from ngopt.graph.bundle import ROLES, Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.structure import Structure

NAMED = 3
"""How many of the parameters that touch a space are named; the others are counted."""


def summary(graph: Structure, full: bool = False) -> str:
    """Describe a graph as text: totals, its spaces, its tensors, and remarks.

    Args:
        graph: the graph, a :class:`ngopt.NeuralGraph`.
        full: whether every tensor has its line. If not, of repeated blocks the first is shown, with
            their number in the column `times`, and tensors of one module share a line if they have
            the same axes, such as those of a norm.

    Returns:
        Several lines, without a newline at the end.

    Example:
        >>> import ngopt
        >>> print(summary(ngopt.NeuralGraph.per_tensor({"w": (5, 3)})))
        1 parameter with 15 entries; 0 hidden and 2 pinned spaces
        0 of 15 entries (0.0 %) touch hidden neurons
        <BLANKLINE>
        space  size  neurons              nested in  parameters
        w:0       5  pinned (not traced)             w
        w:1       3  pinned (not traced)             w
        <BLANKLINE>
        tensor  shape  kind   depth  axes
        w       5 x 3  other   0.50  out=w:0(5) in=w:1(3)
    """
    shown, repeats = (graph, ()) if full else collapse(graph)
    times = counts(repeats)
    parts = [
        _totals(graph),
        _spaces(shown, graph, times),
        _tensors(shown, times, together=not full),
        _remarks(graph, repeats),
    ]
    return "\n\n".join(part for part in parts if part)


def joined(names: Sequence[str]) -> str:
    """Names of tensors of one module, which is named once: `norm.weight, bias`."""
    first, *others = names
    return ", ".join([first, *(name.rpartition(".")[2] for name in others)])


def axes_in_words(bundle: Bundle) -> str:
    """What the dimensions of a bundle run over, by role: `out=h1(16) in=h0(8) tap=3*3`."""
    words = []
    for role in ROLES:
        dims = [d for d in bundle.order if bundle.roles[d] == role]
        factors = [(bundle.factors[d], bundle.sizes[d]) for d in dims]
        if factors:
            named = (f"{f}({size})" if isinstance(f, str) else str(size) for f, size in factors)
            words.append(f"{role}={'*'.join(named)}")
    return " ".join(words) or "scalar"


def _totals(graph: Structure) -> str:
    entries = sum(bundle.numel for bundle in graph.bundles)
    hidden = {space.name for space in graph.hidden}
    touching = sum(b.numel for b in graph.bundles if not hidden.isdisjoint(b.spaces()))
    buffers = len(graph.layouts) - len(graph.parameters)
    checked = "; each hidden space verified" if graph.verified and hidden else ""
    return (
        f"{_count(len(graph.parameters), 'parameter')} with {entries:,} entries"
        f"{', ' + _count(buffers, 'state buffer') if buffers else ''}"
        f"; {len(hidden)} hidden and {len(graph.spaces) - len(hidden)} pinned spaces{checked}\n"
        f"{touching:,} of {entries:,} entries ({100 * touching / max(entries, 1):.1f} %) "
        "touch hidden neurons"
    )


def _spaces(shown: Structure, graph: Structure, times: Mapping[str, int]) -> str:
    """The spaces that are shown, with the tensors that touch them in the whole graph."""
    users: dict[str, list[str]] = {name: [] for name in graph.spaces}
    for name, layout in graph.layouts.items():
        for touched in dict.fromkeys(s for b in layout.bundles for s in b.spaces()):
            users[touched].append(name)
    rows = []
    for space in shown.spaces.values():
        state = f"pinned ({space.reason})" if space.pinned else "hidden"
        more = len(users[space.name]) - NAMED
        named = ", ".join(users[space.name][:NAMED]) + (f" and {more} more" if more > 0 else "")
        count = _times(space.name, times)
        rows.append((space.name, count, str(space.size), state, " ".join(space.within), named))
    header = ("space", "times", "size", "neurons", "nested in", "parameters")
    return _table(header, rows, numbers={1, 2})


def _tensors(graph: Structure, times: Mapping[str, int], *, together: bool) -> str:
    rows = []
    for layouts in _lines(graph.layouts.values(), together):
        layout = layouts[0]
        shape = " x ".join(map(str, layout.shape)) or "scalar"
        kind = f"{layout.kind}, buffer" if layout.buffer else layout.kind
        first, *others = [axes_in_words(bundle) for bundle in layout.bundles] or ["empty"]
        name, count = joined([one.name for one in layouts]), _times(layout.name, times)
        rows.append((name, count, shape, kind, f"{layout.depth:.2f}", first))
        rows.extend(("", "", "", "", "", axes) for axes in others)
    header = ("tensor", "times", "shape", "kind", "depth", "axes")
    return _table(header, rows, numbers={1, 4})


def _lines(layouts: Iterable[Layout], together: bool) -> list[list[Layout]]:
    """Tensors that share a line: those of one module that differ in their last names only."""
    lines: dict[object, list[Layout]] = {}
    for layout in layouts:
        module = layout.name.rpartition(".")[0]
        axes = tuple(axes_in_words(bundle) for bundle in layout.bundles)
        alike = (module, layout.shape, layout.kind, axes) if together and module else layout.name
        lines.setdefault(alike, []).append(layout)
    return list(lines.values())


def _times(name: str, times: Mapping[str, int]) -> str:
    return f"x {times[name]}" if name in times else ""


def _remarks(graph: Structure, repeats: Sequence[Repeat]) -> str:
    lines = [f"{repeat.title}: alike, so the first stands for all" for repeat in repeats]
    if repeats:
        lines.append("  All tensors, one by one: graph.summary(full=True)")
    lines += [f"{alias} is tied to {name}" for alias, name in graph.aliases.items()]
    if graph.unknown:
        lines.append("ngopt has no handler for these operations; the axes through them are pinned:")
        lines += [f"  {operation}" for operation in graph.unknown]
        lines.append("  Teach ngopt an operation: ngopt.register_operation(function, ...)")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    """Align cells in columns: text to the left, the columns of `numbers` to the right.

    A column `times` without an entry is left out.
    """
    if not rows:
        return ""
    shown = [c for c, title in enumerate(header) if title != "times" or any(row[c] for row in rows)]
    widths = {c: max(len(row[c]) for row in (header, *rows)) for c in shown}
    lines = []
    for row in (header, *rows):
        cells = [
            row[c].rjust(widths[c]) if c in numbers else row[c].ljust(widths[c]) for c in shown
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
