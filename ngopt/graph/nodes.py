"""The nodes of a neural graph: the sets of neurons that its bundles lead from and to."""

from collections.abc import Iterable
from dataclasses import dataclass

from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.space import Space
from ngopt.graph.structure import Structure


@dataclass(frozen=True)
class NodeSet:
    """Neurons that bundles end at, or the one node that a bundle without neurons there ends at.

    Args:
        spaces: the spaces whose product the neurons are, in row-major order; empty for a node that
            stands for no neuron: the source of a bias, the target of a scalar.
        size: number of nodes.
        start: number of the first node.
        pinned: whether none of its nodes can be permuted.
        source: whether it is the source of a bundle that has no input neurons.
        depth: mean relative depth (0..1) of the parameters that touch it.
        fan_in: number of edges into each node.
        fan_out: number of edges out of each node.
    """

    spaces: tuple[str, ...]
    size: int
    start: int
    pinned: bool
    source: bool
    depth: float
    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Nodes:
    """The nodes of a graph.

    Args:
        sets: the sets of nodes, numbered one after the other.
        sources: for each of `graph.bundles`, which set its edges leave.
        targets: for each of `graph.bundles`, which set its edges enter.
    """

    sets: tuple[NodeSet, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of nodes in all sets."""
        return sum(nodes.size for nodes in self.sets)


def rank(space: Space) -> tuple[int, str]:
    """Sorts the spaces of a product: outer spaces before those nested in them."""
    return len(space.within), space.name


def nodes_of(graph: Structure) -> Nodes:
    """Collect the nodes of a graph, in the order in which the parameters mention them.

    Two products of the same spaces are the same neurons, in whichever order an axis has them.
    """
    keys: dict[tuple[str, ...], int] = {}
    sources, targets = [], []
    for number, bundle in enumerate(graph.bundles):
        into = _in_order(graph, bundle.out_neurons) or ("", "target", str(number))
        out_of = _in_order(graph, bundle.in_neurons) or ("", "source", str(number))
        sources.append(keys.setdefault(out_of, len(keys)))
        targets.append(keys.setdefault(into, len(keys)))
    entering: list[list[Bundle]] = [[] for _ in keys]
    leaving: list[list[Bundle]] = [[] for _ in keys]
    for bundle, source, target in zip(graph.bundles, sources, targets, strict=True):
        leaving[source].append(bundle)
        entering[target].append(bundle)
    sets: list[NodeSet] = []
    start = 0
    for key, inward, outward in zip(keys, entering, leaving, strict=True):
        spaces = key if key[0] else ()
        size = graph.neurons(spaces)
        depths = [graph.layouts[b.parameter].depth for b in (*inward, *outward)]
        sets.append(
            NodeSet(
                spaces,
                size,
                start,
                pinned=all(graph.spaces[name].pinned for name in spaces),
                source=not spaces and not inward,
                depth=sum(depths) / len(depths),
                fan_in=sum(b.numel for b in inward) // size,
                fan_out=sum(b.numel for b in outward) // size,
            )
        )
        start += size
    return Nodes(tuple(sets), tuple(sources), tuple(targets))


def _in_order(graph: Structure, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: rank(graph.spaces[name])))


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
