"""A graph in words: its spaces, its parameters, and what tracing could not tell."""

from collections.abc import Sequence

from ngopt.graph.bundle import ROLES, Bundle
from ngopt.graph.neural_graph import NeuralGraph

NAMED = 3
"""How many of the parameters that touch a space are named; the others are counted."""


def summary(graph: NeuralGraph) -> str:
    """Describe a graph as text: totals, its spaces, its tensors, and remarks.

    Args:
        graph: the graph.

    Returns:
        Several lines, without a newline at the end.

    Example:
        >>> print(summary(NeuralGraph.per_tensor({"w": (5, 3)})))
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
    parts = [_totals(graph), _spaces(graph), _tensors(graph), _remarks(graph)]
    return "\n\n".join(part for part in parts if part)


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


def _totals(graph: NeuralGraph) -> str:
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


def _spaces(graph: NeuralGraph) -> str:
    users: dict[str, list[str]] = {name: [] for name in graph.spaces}
    for name, layout in graph.layouts.items():
        for touched in dict.fromkeys(s for b in layout.bundles for s in b.spaces()):
            users[touched].append(name)
    rows = []
    for space in graph.spaces.values():
        state = f"pinned ({space.reason})" if space.pinned else "hidden"
        more = len(users[space.name]) - NAMED
        named = ", ".join(users[space.name][:NAMED]) + (f" and {more} more" if more > 0 else "")
        rows.append((space.name, str(space.size), state, " ".join(space.within), named))
    return _table(("space", "size", "neurons", "nested in", "parameters"), rows, numbers={1})


def _tensors(graph: NeuralGraph) -> str:
    rows = []
    for name, layout in graph.layouts.items():
        shape = " x ".join(map(str, layout.shape)) or "scalar"
        kind = f"{layout.kind}, buffer" if layout.buffer else layout.kind
        first, *others = [axes_in_words(bundle) for bundle in layout.bundles] or ["empty"]
        rows.append((name, shape, kind, f"{layout.depth:.2f}", first))
        rows.extend(("", "", "", "", axes) for axes in others)
    return _table(("tensor", "shape", "kind", "depth", "axes"), rows, numbers={3})


def _remarks(graph: NeuralGraph) -> str:
    lines = [f"{alias} is tied to {name}" for alias, name in graph.aliases.items()]
    if graph.unknown:
        lines.append("ngopt has no rule for these operations; the axes through them are pinned:")
        lines += [f"  {operation}" for operation in graph.unknown]
        lines.append("  Teach ngopt an operation: ngopt.register_operation(function, ...)")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int]) -> str:
    """Align cells in columns: text to the left, the columns of `numbers` to the right."""
    if not rows:
        return ""
    widths = [max(len(row[c]) for row in (header, *rows)) for c in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
