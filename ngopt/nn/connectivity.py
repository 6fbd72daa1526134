"""Connectivity: which nodes the edges connect that layers work on, in one network or in many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.graph.bundle import Bundle
from ngopt.graph.incidence import Incidence
from ngopt.graph.nodes import Nodes


class ArrayEdges(NamedTuple):
    """The nodes and the bundles of the edges in one array `(groups, out, in, ...)`.

    The array holds a bundle of one network, or bundles of the same shape of several networks, one
    after the other along its first axis.

    Args:
        ends: numbers of the nodes at both ends, `(groups, out)` and `(groups, in)`.
        bias: whether they have no input neurons, as biases and the parameters of norms.
        bundle: number of the bundle that each group belongs to, `(groups,)`.
    """

    ends: Incidence
    bias: bool
    bundle: Tensor


@dataclass(frozen=True)
class Connectivity:
    """All edges of some networks, which have no edges between each other.

    Args:
        networks: number of networks.
        edges: where the edges of each array are.
        bundle_network: number of the network that each bundle belongs to, `(bundles,)`.
        node_network: the same of each node, `(nodes,)`.
        relative: relative index (0 to 1) of each pinned neuron within its set; -1 for nodes that
            can be permuted or are no neurons, `(nodes,)`.
    """

    networks: int
    edges: tuple[ArrayEdges, ...]
    bundle_network: Tensor
    node_network: Tensor
    relative: Tensor

    @classmethod
    def of_one(
        cls, nodes: Nodes, bundles: Sequence[Bundle], ends: Sequence[Incidence], like: Tensor
    ) -> "Connectivity":
        """Return the connectivity of one network.

        Args:
            nodes: the nodes of its graph.
            bundles: those bundles of the graph that there are arrays of.
            ends: numbers of the nodes at both ends of each.
            like: gives dtype and device.
        """
        zero = torch.zeros((), dtype=torch.long, device=like.device)
        edges = tuple(
            ArrayEdges(end, "in" not in bundle.roles, (zero + number).expand(bundle.shape[0]))
            for number, (bundle, end) in enumerate(zip(bundles, ends, strict=True))
        )
        networks = zero.expand(len(bundles)), zero.expand(nodes.count)
        return cls(1, edges, *networks, relative_indices(nodes, like))

    @property
    def nodes(self) -> int:
        """Number of nodes of all networks."""
        return len(self.relative)

    @property
    def ends(self) -> tuple[Incidence, ...]:
        """Numbers of the nodes at both ends of the edges of each array."""
        return tuple(edges.ends for edges in self.edges)


def relative_indices(nodes: Nodes, like: Tensor) -> Tensor:
    """Relative index (0 to 1) of each pinned neuron within its set; -1 for all other nodes.

    Args:
        nodes: the nodes of a graph.
        like: gives dtype and device.

    Returns:
        `(nodes,)`.
    """
    rows = [
        torch.arange(item.size).to(like) / max(item.size - 1, 1)
        if item.pinned and item.spaces
        else like.new_full((item.size,), -1)
        for item in nodes.sets
    ]
    return torch.cat(rows)
