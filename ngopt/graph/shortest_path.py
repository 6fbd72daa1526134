"""How many layers there are, at least, from the inputs of a model to its outputs."""

from ngopt.graph.layout import Layout
from ngopt.graph.nodes import nodes_of
from ngopt.graph.structure import Structure


def shortest_path(graph: Structure) -> int:
    """Count the layers on the shortest path from inputs to outputs.

    Plain networks have no other path, but residual connections lead past layers. What has no
    inputs, such as a bias, is no way in.

    Returns:
        At least 1, and 1 where no path is known, as for lone tensors or recursive networks.
    """
    nodes = nodes_of(graph)
    ends = zip(graph.bundles, nodes.sources, nodes.targets, strict=True)
    layers = {name for name, layout in graph.parameters.items() if _maps(layout)}
    edges = {(source, target) for bundle, source, target in ends if bundle.parameter in layers}
    sources, targets = ({edge[end] for edge in edges} for end in (0, 1))
    reached = {n for n in sources - targets if nodes.sets[n].pinned}
    outputs = {n for n in targets - sources if nodes.sets[n].pinned}
    seen: set[int] = set()
    length = 0
    while reached and not reached & outputs:
        seen |= reached
        reached = {target for source, target in edges if source in reached} - seen
        length += 1
    return max(1, length) if reached else 1


def _maps(layout: Layout) -> bool:
    """Whether a parameter leads from neurons, or from a lone input, to others."""
    return len(layout.shape) > 1 and layout.kind not in ("normalization", "elementwise")
