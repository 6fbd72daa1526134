"""A graph and its tensors as `torch_geometric` data: one node per neuron, one edge per entry."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle
from ngopt.graph.incidence import incidences, neuron_dims, row_major
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import NodeSet, nodes_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

NODE_FEATURES = ("depth", "log_fan_in", "log_fan_out", "pinned", "source")
"""The columns of `data.x`."""


def to_pyg(graph: NeuralGraph, tensors: Mapping[str, Tensor | Sequence[Tensor]]) -> Data:
    """Turn parameters into edges between neurons, with the entries as edge features.

    Each entry of a parameter is one directed edge, from its input neuron to its output neuron. A
    bias, which has no input neurons, gets one source node. Edges are ordered by bundle, then by
    the bundle's array `(group, out, in, tap)`.

    Args:
        graph: the graph.
        tensors: by name of the parameter, a tensor shaped like it or F of them (weight, gradient,
            momentum, ...), which become the features of its edges. Parameters left out have no
            edges; the nodes are the same.

    Returns:
        Data with N nodes and E edges, in which there are

        * `x (N, 5)`: what :data:`.NODE_FEATURES` names: relative depth in 0..1, log(1 + edges in),
          log(1 + edges out), whether pinned, whether the source of a bias;
        * `node_type (N,)`: which of :func:`ngopt.graph.nodes.nodes_of`'s sets the node is in;
        * `edge_index (2, E)`: the nodes that each edge leaves and enters;
        * `edge_attr (E, F)`: the features, differentiable with respect to `tensors`;
        * `edge_type (E,)`: which of `graph.bundles` the edge is in;
        * `edge_tap (E,)`: index of the edge among those between the same two neurons of a bundle.

    Raises:
        GraphError: if a tensor does not fit the graph, or parameters differ in their number of
            features.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024, section 3.
    """
    from torch_geometric.data import Data  # takes seconds to import

    features = _features(graph, tensors)
    nodes = nodes_of(graph)
    device = next((stack[0].device for stack in features.values()), torch.device("cpu"))
    index, attr, taps, types = [], [], [], []
    ends = incidences(graph, nodes, device)
    for number, (bundle, (target, source)) in enumerate(zip(graph.bundles, ends, strict=True)):
        if bundle.parameter not in features:
            continue
        attr.append(torch.stack([bundle.view(t).flatten() for t in features[bundle.parameter]], -1))
        leaves = source[:, None, :, None].expand(bundle.shape).flatten()
        enters = target[:, :, None, None].expand(bundle.shape).flatten()
        index.append(torch.stack([leaves, enters]))
        taps.append(_taps(graph, bundle, device))
        types.append(torch.full_like(leaves, number))
    if not attr:
        width = max((len(stack) for stack in features.values()), default=0)
        attr = [torch.empty(0, width, device=device)]
        index = [torch.empty(2, 0, dtype=torch.long, device=device)]
        taps = types = [torch.empty(0, dtype=torch.long, device=device)]
    return Data(
        x=_node_features(nodes.sets, device),
        node_type=_repeat(range(len(nodes.sets)), nodes.sets, torch.long, device),
        edge_index=torch.cat(index, dim=1),
        edge_attr=torch.cat(attr),
        edge_type=torch.cat(types),
        edge_tap=torch.cat(taps),
        num_nodes=nodes.count,
    )


def from_pyg(graph: NeuralGraph, data: Data) -> dict[str, list[Tensor]]:
    """Inverse of :func:`to_pyg`: turn edge features back into tensors shaped like the parameters.

    Args:
        graph: the graph that `data` was made with.
        data: its `edge_attr` may be new, of shape `(E, F)` or `(E,)`, in the order of the edges.

    Returns:
        By name, the F tensors of each parameter that has edges in `data`, and of each empty one.

    Raises:
        GraphError: if the edges are not those of the graph.
    """
    attr = data.edge_attr if data.edge_attr.dim() == 2 else data.edge_attr.unsqueeze(1)
    present = {number for number in data.edge_type.unique().tolist() if number < len(graph.bundles)}
    names = {graph.bundles[number].parameter for number in present}
    kept = [number for number, b in enumerate(graph.bundles) if b.parameter in names]
    sizes = [graph.bundles[number].numel for number in kept]
    expected = torch.tensor(kept).long().repeat_interleave(torch.tensor(sizes).long())
    if not torch.equal(expected, data.edge_type.cpu()):
        raise GraphError(
            f"cannot turn {len(attr)} edges back into tensors: they are not the edges of this "
            "graph, in the order that to_pyg gives them.\n"
            "  Change `edge_attr` only; keep all edges and their order."
        )
    parts = iter(attr.split(sizes) if sizes else ())
    result = {}
    for name, layout in graph.parameters.items():
        if layout.bundles and name not in names:
            continue
        stacks = [part.unbind(1) for part in itertools.islice(parts, len(layout.bundles))]
        like = attr.new_empty(layout.shape)
        result[name] = [
            layout.assemble(
                [
                    stack[column].reshape(bundle.shape)
                    for stack, bundle in zip(stacks, layout.bundles, strict=True)
                ],
                like,
            )
            for column in range(attr.shape[1])
        ]
    return result


def _features(
    graph: NeuralGraph, tensors: Mapping[str, Tensor | Sequence[Tensor]]
) -> dict[str, list[Tensor]]:
    """Lists of tensors by the name that the graph knows the parameter by, checked."""
    features: dict[str, list[Tensor]] = {}
    for name, given in tensors.items():
        layout = graph.layout(name)
        if layout.buffer:
            raise GraphError(
                f"`{name}` is a state buffer, which has no edges.\n"
                "  Pass parameters only: dict(model.named_parameters())."
            )
        stack = [given] if isinstance(given, Tensor) else list(given)
        for tensor in stack:
            layout.check(tensor)
        features[layout.name] = stack
    counts = {name: len(stack) for name, stack in features.items()}
    if len(set(counts.values())) > 1:
        few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        raise GraphError(
            f"every edge needs the same features, but `{few}` has {counts[few]} tensors and "
            f"`{many}` has {counts[many]}.\n  Pass equally many tensors for each parameter."
        )
    return features


def _taps(graph: NeuralGraph, bundle: Bundle, device: torch.device) -> Tensor:
    """Index of every edge among those between the same two nodes of its bundle."""
    ends = {*neuron_dims(graph, bundle, "out"), *neuron_dims(graph, bundle, "in")}
    others = [d for d in bundle.order if d not in ends]
    return row_major(bundle.sizes, others, device).permute(bundle.order).flatten()


def _node_features(sets: Sequence[NodeSet], device: torch.device) -> Tensor:
    columns = [
        [nodes.depth for nodes in sets],
        [math.log1p(nodes.fan_in) for nodes in sets],
        [math.log1p(nodes.fan_out) for nodes in sets],
        [float(nodes.pinned) for nodes in sets],
        [float(nodes.source) for nodes in sets],
    ]
    return torch.stack([_repeat(column, sets, torch.float32, device) for column in columns], dim=1)


def _repeat(
    values: Iterable[float], sets: Sequence[NodeSet], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """One value per set of nodes, repeated for each node."""
    sizes = torch.tensor([nodes.size for nodes in sets], dtype=torch.long, device=device)
    return torch.tensor(list(values), dtype=dtype, device=device).repeat_interleave(sizes)
