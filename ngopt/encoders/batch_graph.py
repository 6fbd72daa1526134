"""The graphs of a batch of networks: edges and nodes, without the values of parameters."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from ngopt.encoders.networks import Networks
from ngopt.features.bundle_features import KINDS, fan_in
from ngopt.features.positions import Positions
from ngopt.graph.bundle import Bundle
from ngopt.graph.incidence import Incidence, incidences
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, NodeSet, nodes_of
from ngopt.graph.space import ACTIVATIONS
from ngopt.nn.connectivity import ArrayEdges, Connectivity, relative_indices

HIDDEN, INPUT, OUTPUT, NO_NEURON = ROLES = range(4)
"""What a node is in its network. Pinned neurons between inputs and outputs count as hidden."""

BUNDLE_KINDS = 2 * len(KINDS)
"""Kinds of bundles: the kinds of layers, each for weights and for biases."""

Key: TypeAlias = tuple[object, ...]


class StackSlice(NamedTuple):
    """Bundles of one stack, as a slice of an array of a batch.

    Args:
        stack: number of the stack.
        layout: of the parameter.
        number: which of its bundles it is.
        array: number of the array.
        start: number of the first group.
        stop: number after that of the last group.
    """

    stack: int
    layout: Layout
    number: int
    array: int
    start: int
    stop: int


@dataclass(frozen=True)
class BatchGraph:
    """The graphs of a batch: all that does not depend on the values of parameters.

    Args:
        connectivity: which nodes the edges connect.
        taps: coordinates of the taps of each array, `(tap, TAP_POSITIONS)`.
        structure: features of each bundle, `(bundles, STRUCTURE)`.
        kinds: kind of each bundle, below `BUNDLE_KINDS`, `(bundles,)`.
        numbers: number of each bundle within its graph, `(bundles,)`.
        fan_in: number of inputs that add up in an output of each bundle, `(bundles,)`.
        positions: features of each node, `(nodes, NODE_POSITIONS)`.
        activations: whether each of `ACTIVATIONS` is applied to each node, `(nodes, ACTIVATIONS)`.
        roles: one of `ROLES` for each node, `(nodes,)`.
        places: number of each node among those of its role in its network, `(nodes,)`.
        nodes: the sets of nodes of the networks of each stack.
        slices: which groups belong to which parameters.
    """

    connectivity: Connectivity
    taps: tuple[Tensor, ...]
    structure: Tensor
    kinds: Tensor
    numbers: Tensor
    fan_in: Tensor
    positions: Tensor
    activations: Tensor
    roles: Tensor
    places: Tensor
    nodes: tuple[Nodes, ...]
    slices: tuple[StackSlice, ...]


class _GraphDescription(NamedTuple):
    """Features of bundles and nodes that a graph alone determines."""

    nodes: Nodes
    ends: list[Incidence]
    keys: list[Key]
    taps: list[Tensor]
    structure: Tensor
    kinds: Tensor
    numbers: Tensor
    fan_in: Tensor
    relative: Tensor
    positions: Tensor
    activations: Tensor
    roles: Tensor
    places: Tensor


def _describe(graph: NeuralGraph, shown: Positions, like: Tensor) -> _GraphDescription:
    nodes, bundles = nodes_of(graph), graph.bundles
    like = like.new_empty(0)
    layouts = [graph.layouts[bundle.parameter] for bundle in bundles]
    sizes = torch.tensor([item.size for item in nodes.sets], device=like.device)
    kinds = [
        2 * KINDS.index(layout.kind) + ("in" not in bundle.roles)
        for layout, bundle in zip(layouts, bundles, strict=True)
    ]

    def by_node(rows: Tensor) -> Tensor:
        return rows.repeat_interleave(sizes, 0, output_size=nodes.count)

    roles = by_node(torch.tensor([_role(item) for item in nodes.sets], device=like.device))
    return _GraphDescription(
        nodes,
        incidences(graph, nodes, like.device),
        [_key(bundle) for bundle in bundles],
        [shown.taps(bundle, like) for bundle in bundles],
        like.new_tensor(
            [shown.structure(graph, a, b) for a, b in zip(layouts, bundles, strict=True)]
        ),
        torch.tensor(kinds, device=like.device),
        torch.arange(len(bundles), device=like.device),
        like.new_tensor([fan_in(bundle) for bundle in bundles]),
        relative_indices(nodes, like),
        shown.nodes(nodes, like),
        by_node(like.new_tensor([_activations(graph, item) for item in nodes.sets])),
        roles,
        _places(roles),
    )


def count_role(nodes: Nodes, role: int) -> int:
    """Number of nodes of a role in one network."""
    return sum(item.size for item in nodes.sets if _role(item) == role)


def _places(roles: Tensor) -> Tensor:
    """Count the nodes of each role."""
    counts = (roles.unsqueeze(1) == torch.arange(len(ROLES), device=roles.device)).cumsum(0)
    return counts.gather(1, roles.unsqueeze(1)).squeeze(1) - 1


def _key(bundle: Bundle) -> Key:
    """Bundles of the same key can stand in one array: their entries are alike in shape."""
    taps = tuple(bundle.sizes[d] for d in bundle.order if bundle.roles[d] == "tap")
    return bundle.shape[1:3], taps, "in" in bundle.roles


def _activations(graph: NeuralGraph, item: NodeSet) -> list[float]:
    applied = {name for space in item.spaces for name in graph.spaces[space].activation.split()}
    return [float(name in applied) for name in ACTIVATIONS]


def _role(item: NodeSet) -> int:
    if not item.spaces:  # an output that is alone is not told from a scalar but by its place
        return OUTPUT if not item.source and item.depth == 1 else NO_NEURON
    if item.pinned and not item.fan_out:
        return OUTPUT
    return INPUT if item.pinned and not item.fan_in else HIDDEN


Built = TypeVar("Built")


class _Cache:
    """Cache of what was built from graphs, which are compared by identity."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[Key, tuple[Sequence[NeuralGraph], object]] = OrderedDict()

    def get(self, graphs: Sequence[NeuralGraph], more: Key, build: Callable[[], Built]) -> Built:
        key = tuple(map(id, graphs)), more
        if key not in self._found:
            self._found[key] = graphs, build()  # a graph that is kept keeps its id
        self._found.move_to_end(key)
        if len(self._found) > self._size:
            self._found.popitem(last=False)
        return self._found[key][1]  # type: ignore[return-value]


_DESCRIBED, _FRAMES = _Cache(1024), _Cache(16)


def batch_graph_of(networks: Networks, shown: Positions, like: Tensor) -> BatchGraph:
    """Describe a batch, or remember what was said of the same graphs in the same numbers.

    Args:
        networks: the networks.
        shown: the positional features to show.
        like: gives dtype and device.
    """
    graphs, counts = [stack.graph for stack in networks], [len(stack) for stack in networks]
    more = shown.names, like.dtype, like.device

    def build() -> BatchGraph:
        described = [
            _DESCRIBED.get([graph], more, lambda g=graph: _describe(g, shown, like))  # type: ignore[misc]
            for graph in graphs
        ]
        return _join(graphs, described, counts, like)

    return _FRAMES.get(graphs, (*more, *counts), build)


def _join(
    graphs: Sequence[NeuralGraph],
    described: Sequence[_GraphDescription],
    counts: Sequence[int],
    like: Tensor,
) -> BatchGraph:
    def rows(name: str) -> Tensor:
        """What is known of bundles or of nodes, network by network."""
        tables = zip(described, counts, strict=True)
        return torch.cat([_repeated(getattr(d, name), n) for d, n in tables])

    blocks, slices = _blocks(graphs, described, counts)
    connectivity = Connectivity(
        sum(counts),
        tuple(block.edges() for block in blocks),
        _owners([len(d.kinds) for d in described], counts, like),
        _owners([d.nodes.count for d in described], counts, like),
        rows("relative"),
    )
    return BatchGraph(
        connectivity,
        tuple(block.taps for block in blocks),
        rows("structure"),
        rows("kinds"),
        rows("numbers"),
        rows("fan_in"),
        rows("positions"),
        rows("activations"),
        rows("roles"),
        rows("places"),
        tuple(d.nodes for d in described),
        tuple(slices),
    )


@dataclass
class _Block:
    """An array in the making."""

    taps: Tensor
    bias: bool
    groups: int
    targets: list[Tensor]
    sources: list[Tensor]
    bundles: list[Tensor]

    def edges(self) -> ArrayEdges:
        ends = Incidence(torch.cat(self.targets), torch.cat(self.sources))
        return ArrayEdges(ends, self.bias, torch.cat(self.bundles))


def _blocks(
    graphs: Sequence[NeuralGraph], described: Sequence[_GraphDescription], counts: Sequence[int]
) -> tuple[list[_Block], list[StackSlice]]:
    blocks: dict[Key, _Block] = {}
    slices = []
    first_node = first_bundle = 0
    for number, (graph, known, count) in enumerate(zip(graphs, described, counts, strict=True)):
        each = torch.arange(count, device=known.kinds.device)
        bundles = [(lay, i) for lay in graph.parameters.values() for i in range(len(lay.bundles))]
        for place, (layout, which) in enumerate(bundles):
            bundle, key, ends = layout.bundles[which], known.keys[place], known.ends[place]
            fresh = _Block(known.taps[place], "in" not in bundle.roles, 0, [], [], [])
            block = blocks.setdefault(key, fresh)
            stop = block.groups + count * bundle.shape[0]
            array = list(blocks).index(key)
            slices.append(StackSlice(number, layout, which, array, block.groups, stop))
            block.groups = stop
            shift = first_node + each * known.nodes.count
            block.targets.append(_shifted(ends.target, shift))
            block.sources.append(_shifted(ends.source, shift))
            owner = first_bundle + each * len(known.kinds) + place
            block.bundles.append(owner.repeat_interleave(bundle.shape[0]))
        first_node += count * known.nodes.count
        first_bundle += count * len(known.kinds)
    return list(blocks.values()), slices


def _shifted(numbers: Tensor, shift: Tensor) -> Tensor:
    """Numbers of nodes `(group, neurons)` in each network, `(networks * group, neurons)`."""
    return (shift[:, None, None] + numbers).flatten(0, 1)


def _repeated(rows: Tensor, count: int) -> Tensor:
    return rows.repeat(count, *[1] * (rows.dim() - 1))


def _owners(sizes: Sequence[int], counts: Sequence[int], like: Tensor) -> Tensor:
    """Number of the network that each bundle or node belongs to."""
    each = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    repeats = torch.tensor(each, device=like.device)
    numbers = torch.arange(len(each), device=like.device)
    return numbers.repeat_interleave(repeats, output_size=sum(each))
