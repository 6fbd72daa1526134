"""Which weights there are between layers whose neurons belong, in blocks, to nodes of a graph."""

from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.ws_flex import Graph


def block_sizes(width: int, nodes: int, seed: int | None = None) -> Tensor:
    """Number of neurons of each node, as even as can be.

    Args:
        width: number of neurons.
        nodes: of the graph.
        seed: draws which nodes have one neuron more; by default the first ones have.

    Returns:
        Integers, (nodes,).

    Raises:
        MetaTrainError: if there are fewer neurons than nodes.
    """
    if width < nodes:
        raise MetaTrainError(
            f"{nodes} nodes cannot share {width} neurons.\n"
            "  Use a width that is at least the number of nodes."
        )
    sizes = torch.full((nodes,), width // nodes)
    sizes[: width % nodes] += 1
    if seed is None:
        return sizes
    return sizes[torch.randperm(nodes, generator=torch.Generator().manual_seed(seed))]


def dense_mask(graph: Graph, into: Tensor, out: Tensor) -> Tensor:
    """Expand a graph to neurons: `mask[i, j]` is 1 where neuron `i` has an input from neuron `j`.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        into: number of neurons of each node in the layer before, (nodes,).
        out: number of neurons of each node in the layer, (nodes,).

    Returns:
        Zeros and ones, (out, in).
    """
    live = torch.tensor(graph).fill_diagonal_(True).float()
    return live.repeat_interleave(out, 0).repeat_interleave(into, 1)


@dataclass(frozen=True)
class Group:
    """Nodes that hear from as many nodes, in one direction.

    Args:
        nodes: how many there are.
        degree: number of nodes that each has inputs from, itself included.
        rows: for each, the neurons it has inputs from, (nodes * degree * source block,). Blocks
            are filled up with a number past the last neuron, where there is a zero.
        own: its own neurons, filled up likewise, (nodes * own block,).
        blocks: numbers of its blocks of weights, (nodes * degree,).
    """

    nodes: int
    degree: int
    rows: Tensor
    own: Tensor
    blocks: Tensor

    def split(self) -> "tuple[Group, ...]":
        """Return a group for each node."""
        parts = (t.view(self.nodes, -1) for t in (self.rows, self.own, self.blocks))
        return tuple(Group(1, self.degree, *of_node) for of_node in zip(*parts, strict=True))


@dataclass(frozen=True)
class Direction:
    """How neurons are gathered, multiplied and put back, forwards or backwards.

    Args:
        groups: all nodes.
        place: for each neuron of the result, its row in the results of all groups, (neurons,).
        flipped: whether blocks of weights are to be transposed.
    """

    groups: tuple[Group, ...]
    place: Tensor
    flipped: bool

    def to(self, device: torch.device) -> "Direction":
        """Return the same with its numbers on a device."""
        groups = tuple(
            replace(g, rows=g.rows.to(device), own=g.own.to(device), blocks=g.blocks.to(device))
            for g in self.groups
        )
        return Direction(groups, self.place.to(device), self.flipped)

    def single(self) -> "Direction":
        """Return the same with a group for each node."""
        return replace(self, groups=tuple(node for group in self.groups for node in group.split()))


class Wiring:
    """Which blocks of weights there are between two layers of neurons, and how to use them.

    Block `e` holds the weights from the neurons of node `source[e]` to those of `target[e]`;
    smaller blocks are filled up with zeros.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        into: number of neurons of each node in the layer before, (nodes,).
        out: number of neurons of each node in the layer, (nodes,).
    """

    def __init__(self, graph: Graph, into: Tensor, out: Tensor) -> None:
        self.into, self.out = into, out
        self.live = live = torch.tensor(graph).fill_diagonal_(True)
        # Blocks stand in the order in which forward groups use them, so that gathering them is
        # no work.
        degrees = live.sum(1)
        order = torch.argsort(degrees, stable=True)
        self.target = order.repeat_interleave(degrees[order])
        self.source = torch.cat([live[node].nonzero()[:, 0] for node in order])
        number = torch.full(live.shape, -1)
        number[self.target, self.source] = torch.arange(len(self.target))
        self.forwards = _direction(live, number, into, out, flipped=False)
        self.backwards = _direction(live.T, number.T, out, into, flipped=True)

    @property
    def device(self) -> torch.device:
        """Where the numbers are that neurons are gathered by."""
        return self.forwards.place.device

    def to(self, device: torch.device) -> "Wiring":
        """Return the same, to be used on a device."""
        return self._with(self.forwards.to(device), self.backwards.to(device))

    def single(self) -> "Wiring":
        """Return the same with a group for each node."""
        return self._with(self.forwards.single(), self.backwards.single())

    def _with(self, forwards: Direction, backwards: Direction) -> "Wiring":
        other = copy(self)
        other.forwards, other.backwards = forwards, backwards
        return other

    @property
    def block(self) -> tuple[int, int]:
        """Number of rows and columns of a block."""
        return int(self.out.max()), int(self.into.max())

    @property
    def weights(self) -> int:
        """Number of weights, without those that fill up blocks."""
        return int((self.out[self.target] * self.into[self.source]).sum())

    def place(self) -> Tensor:
        """Place of each entry of the blocks in a dense matrix, (blocks, rows, columns).

        Entries that fill up blocks have the number past the last, out * in.
        """
        rows, columns = _neurons(self.out), _neurons(self.into)
        out, into = int(self.out.sum()), int(self.into.sum())
        row, column = rows[self.target][:, :, None], columns[self.source][:, None, :]
        inside = (row < out) & (column < into)
        return torch.where(inside, row * into + column, out * into)


def _neurons(sizes: Tensor) -> Tensor:
    """Numbers of the neurons of each node, (nodes, largest block), filled up with the total."""
    start = sizes.cumsum(0) - sizes
    within = torch.arange(int(sizes.max()))
    numbers = start[:, None] + within
    return torch.where(within < sizes[:, None], numbers, int(sizes.sum()))


def _direction(
    live: Tensor, number: Tensor, source: Tensor, own: Tensor, *, flipped: bool
) -> Direction:
    """Group nodes by the number of nodes they have inputs from."""
    degrees = live.sum(1)
    sources, targets = _neurons(source), _neurons(own)
    groups, owners = [], []
    for degree in sorted(set(degrees.tolist())):
        nodes = (degrees == degree).nonzero()[:, 0]
        neighbours = torch.stack([live[node].nonzero()[:, 0] for node in nodes])
        blocks = number[nodes[:, None], neighbours].flatten()
        groups.append(
            Group(
                len(nodes), degree, sources[neighbours].flatten(), targets[nodes].flatten(), blocks
            )
        )
        owners.append(targets[nodes].flatten())
    stands = torch.cat(owners)
    place = torch.empty(int(own.sum()) + 1, dtype=torch.int64)
    place[stands] = torch.arange(len(stands))
    return Direction(tuple(groups), place[:-1], flipped)
