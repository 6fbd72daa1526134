"""Which nodes the rows and columns of a bundle's array belong to."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.graph.bundle import Bundle, Role
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, rank


class Incidence(NamedTuple):
    """The nodes at both ends of a bundle's edges; an entry at each tap joins the same two.

    Args:
        target: number of the node that edges `[g, o, :, :]` enter, `(group, out)`.
        source: number of the node that edges `[g, :, i, :]` leave, `(group, in)`.
    """

    target: Tensor
    source: Tensor


def incidences(graph: NeuralGraph, nodes: Nodes, device: torch.device) -> list[Incidence]:
    """Return the nodes at both ends of each of `graph.bundles`.

    Args:
        graph: the graph.
        nodes: its nodes, from :func:`ngopt.graph.nodes.nodes_of`.
        device: of the result.
    """
    return [
        Incidence(
            _numbers(graph, bundle, "out", device) + nodes.sets[target].start,
            _numbers(graph, bundle, "in", device) + nodes.sets[source].start,
        )
        for bundle, target, source in zip(graph.bundles, nodes.targets, nodes.sources, strict=True)
    ]


def neuron_dims(graph: NeuralGraph, bundle: Bundle, role: Role) -> list[int]:
    """Dimensions that number the neurons at one end, in the order of the node set's spaces."""
    if role == "in" and "in" not in bundle.roles:
        return []
    dims = [
        d
        for d in bundle.order
        if bundle.roles[d] in ("group", role) and isinstance(bundle.factors[d], str)
    ]
    return sorted(dims, key=lambda d: rank(graph.spaces[str(bundle.factors[d])]))


def row_major(sizes: Sequence[int], dims: Sequence[int], device: torch.device) -> Tensor:
    """Row-major index over `dims`, taken in the given order, at each place of a grid.

    Args:
        sizes: sizes of the grid.
        dims: the dimensions to count over; the others make no difference.
        device: of the result.

    Returns:
        Whole numbers of shape `sizes`.
    """
    number = torch.zeros(list(sizes), dtype=torch.long, device=device)
    for d in dims:
        shape = [size if other == d else 1 for other, size in enumerate(sizes)]
        number = number * sizes[d] + torch.arange(sizes[d], device=device).view(shape)
    return number


def _numbers(graph: NeuralGraph, bundle: Bundle, role: Role, device: torch.device) -> Tensor:
    """Index within its set of each neuron at one end, `(group, out)` or `(group, in)`."""
    present = ("group", role)
    sizes = [
        size if r in present else 1 for size, r in zip(bundle.sizes, bundle.roles, strict=True)
    ]
    number = row_major(sizes, neuron_dims(graph, bundle, role), device)
    group, outputs, inputs, _ = bundle.shape
    return number.permute(bundle.order).reshape(group, outputs if role == "out" else inputs)
