"""Layers wired as a graph between blocks of neurons, computed without the weights that are absent.

What a masked dense layer multiplies by zero is neither stored nor computed: each node gathers the
blocks of its neighbours, and nodes with as many neighbours are one batched product.
"""

import math
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from meta_train.errors import MetaTrainError
from meta_train.tasks.ws_flex import Graph

_input_gradient: Callable[..., Tensor] = conv2d_input
_kernel_gradient: Callable[..., Tensor] = conv2d_weight


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
    """Expand a graph to neurons: `mask[i, j]` is 1 where neuron `i` hears from neuron `j`.

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
        hears: how many nodes each hears from, itself included.
        rows: for each, the neurons that it hears from, (nodes * hears * source block,). Blocks are
            filled up with a number past the last neuron, where there is a zero.
        own: its own neurons, filled up likewise, (nodes * own block,).
        blocks: numbers of its blocks of weights, (nodes * hears,).
    """

    nodes: int
    hears: int
    rows: Tensor
    own: Tensor
    blocks: Tensor

    def split(self) -> "tuple[Group, ...]":
        """Return a group for each node."""
        parts = (t.view(self.nodes, -1) for t in (self.rows, self.own, self.blocks))
        return tuple(Group(1, self.hears, *of_node) for of_node in zip(*parts, strict=True))


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
    """Group nodes by how many nodes they hear from."""
    degrees = live.sum(1)
    heard, mine = _neurons(source), _neurons(own)
    groups, owners = [], []
    for hears in sorted(set(degrees.tolist())):
        nodes = (degrees == hears).nonzero()[:, 0]
        neighbours = torch.stack([live[node].nonzero()[:, 0] for node in nodes])
        blocks = number[nodes[:, None], neighbours].flatten()
        groups.append(
            Group(len(nodes), hears, heard[neighbours].flatten(), mine[nodes].flatten(), blocks)
        )
        owners.append(mine[nodes].flatten())
    stands = torch.cat(owners)
    place = torch.empty(int(own.sum()) + 1, dtype=torch.int64)
    place[stands] = torch.arange(len(stands))
    return Direction(tuple(groups), place[:-1], flipped)


def _filled(x: Tensor, dim: int) -> Tensor:
    """Neurons and one more that is zero."""
    shape = list(x.shape)
    shape[dim] = 1
    return torch.cat([x, x.new_zeros(shape)], dim)


class _Scratch(threading.local):
    """Memory for what is gathered: on a CPU, asking for it anew takes longer than gathering."""

    def __init__(self) -> None:
        self._kept: dict[torch.dtype, Tensor] = {}

    def gathered(self, x: Tensor, dim: int, rows: Tensor) -> Tensor:
        """Rows of a tensor; on a CPU they are overwritten by the next call."""
        if x.device.type != "cpu":
            return x.index_select(dim, rows)
        shape = [*x.shape[:dim], len(rows), *x.shape[dim + 1 :]]
        size = math.prod(shape)
        kept = self._kept.get(x.dtype)
        if kept is None or len(kept) < size:
            kept = self._kept[x.dtype] = x.new_empty(size)
        return torch.index_select(x, dim, rows, out=kept[:size].view(shape))


_scratch = _Scratch()


def _matrices(blocks: Tensor, group: Group, *, flipped: bool) -> Tensor:
    """Weights of a group's nodes side by side: (nodes, own, hears * source, ...)."""
    own = blocks.index_select(0, group.blocks)
    own = own.view(group.nodes, group.hears, *own.shape[1:])
    own = own.transpose(1, 3) if flipped else own.transpose(1, 2)
    return (own.transpose(2, 3) if flipped else own).flatten(2, 3)


def _product(direction: Direction, blocks: Tensor, x: Tensor) -> Tensor:
    """Multiply neurons in rows (in, samples) by blocks of weights: (out, samples)."""
    filled, results = _filled(x, 0), []
    for group in direction.groups:
        heard = _scratch.gathered(filled, 0, group.rows).view(group.nodes, -1, x.shape[1])
        matrices = _matrices(blocks, group, flipped=direction.flipped)
        results.append(torch.bmm(matrices, heard).flatten(0, 1))
    return torch.cat(results).index_select(0, direction.place)


def _weight_gradient(direction: Direction, x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the blocks (blocks, rows, columns), in the order that forward groups use them."""
    filled, arrived, found = _filled(x, 0), _filled(gradient, 0), []
    for group in direction.groups:
        heard = _scratch.gathered(filled, 0, group.rows).view(group.nodes, -1, x.shape[1])
        own = arrived.index_select(0, group.own).view(group.nodes, -1, x.shape[1])
        found.append(_blocks_of(torch.bmm(own, heard.transpose(1, 2)), group))
    return torch.cat(found)


def _blocks_of(matrices: Tensor, group: Group) -> Tensor:
    """Blocks of matrices (nodes, own, hears * source, ...) of a group."""
    nodes, rows, columns, *kernel = matrices.shape
    blocks = matrices.view(nodes, rows, group.hears, columns // group.hears, *kernel)
    return blocks.transpose(1, 2).flatten(0, 1)


class _BlockProduct(torch.autograd.Function):
    """Product with gathered blocks; backwards it gathers too, where autograd would scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Tensor, wiring: "Wiring") -> Tensor:
        ctx.save_for_backward(x, blocks)
        ctx.wiring = wiring
        return _product(wiring.forwards, blocks, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x, blocks), wiring = ctx.saved_tensors, ctx.wiring
        to_x = _product(wiring.backwards, blocks, gradient) if ctx.needs_input_grad[0] else None
        to_blocks = None
        if ctx.needs_input_grad[1]:
            to_blocks = _weight_gradient(wiring.forwards, x, gradient)
        return to_x, to_blocks, None


class _BlockConvolution(torch.autograd.Function):
    """Convolution with gathered blocks of channels, a grouped one for each group of nodes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, blocks: Tensor, wiring: "Wiring", stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, blocks)
        ctx.wiring, ctx.stride, ctx.padding = wiring, stride, padding
        filled, results = _filled(x, 1), []
        for group in wiring.forwards.groups:
            weight = _matrices(blocks, group, flipped=False).flatten(0, 1)
            heard = _scratch.gathered(filled, 1, group.rows)
            results.append(conv2d(heard, weight, None, stride, padding, groups=group.nodes))
        return torch.cat(results, 1).index_select(1, wiring.forwards.place)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x, blocks), wiring = ctx.saved_tensors, ctx.wiring
        filled, arrived = _filled(x, 1), _filled(gradient, 1)
        options = (ctx.stride, ctx.padding, 1)
        to_x, to_blocks = None, None
        if ctx.needs_input_grad[0]:
            results = []
            for group in wiring.backwards.groups:
                weight = _matrices(blocks, group, flipped=True).transpose(1, 2).flatten(0, 1)
                shape = (len(x), len(group.own), *x.shape[2:])
                heard = _scratch.gathered(arrived, 1, group.rows)
                results.append(_input_gradient(shape, weight, heard, *options, group.nodes))
            to_x = torch.cat(results, 1).index_select(1, wiring.backwards.place)
        if ctx.needs_input_grad[1]:
            found = []
            for group in wiring.forwards.groups:
                columns = len(group.rows) // group.nodes
                shape = (len(group.own), columns, *blocks.shape[3:])
                heard = _scratch.gathered(filled, 1, group.rows)
                own = arrived.index_select(1, group.own)
                weight = _kernel_gradient(heard, shape, own, *options, group.nodes)
                found.append(_blocks_of(weight.view(group.nodes, -1, *weight.shape[1:]), group))
            to_blocks = torch.cat(found)
        return to_x, to_blocks, None, None, None


class _BlockLayer(nn.Module):
    """Weights of a layer in blocks.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        into: number of neurons of each node in the layer before, (nodes,).
        out: number of neurons of each node in the layer, (nodes,).
        kernel: sizes of the kernel; none of a linear layer.
    """

    def __init__(self, graph: Graph, into: Tensor, out: Tensor, kernel: tuple[int, ...]) -> None:
        super().__init__()
        self.wiring = Wiring(graph, into, out)
        blocks = len(self.wiring.target)
        self.weight = nn.Parameter(torch.zeros(blocks, *self.wiring.block, *kernel))
        self.register_buffer("_place", self.wiring.place(), persistent=False)
        self._place: Tensor
        self.shape = torch.Size((int(out.sum()), int(into.sum()), *kernel))
        self._placed = self.wiring

    def dense(self) -> Tensor:
        """Weights of the masked dense layer that computes the same, (out, in, *kernel)."""
        out, into, *kernel = self.shape
        flat = self.weight.new_zeros(out * into + 1, *kernel)
        return flat.index_put((self._place,), self.weight)[:-1].view(self.shape)

    @torch.no_grad()
    def load_dense(self, weight: Tensor) -> None:
        """Take the weights of a dense layer; those that are masked are left out.

        Args:
            weight: (out, in, *kernel).
        """
        flat = weight.to(self.weight).reshape(-1, *self.shape[2:])
        self.weight.copy_(_filled(flat, 0)[self._place])

    def placed(self) -> Wiring:
        """Return the wiring with its numbers on the device of the weights."""
        if self._placed.device != self.weight.device:
            self._placed = self.wiring.to(self.weight.device)
        return self._placed

    def extra_repr(self) -> str:
        """What `print` shows."""
        out, into, *_ = self.shape
        return f"{into}, {out}, nodes={len(self.wiring.live)}, weights={self.wiring.weights}"


class BlockLinear(_BlockLayer):
    """A linear layer without bias, wired as a graph; the same as a masked dense one.

    It cannot be differentiated twice, nor run under `torch.func`.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        into: number of neurons of each node in the layer before, (nodes,).
        out: number of neurons of each node in the layer, (nodes,).
    """

    def __init__(self, graph: Graph, into: Tensor, out: Tensor) -> None:
        super().__init__(graph, into, out, ())

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs (..., in) to outputs (..., out)."""
        rows = input.reshape(-1, input.shape[-1]).T
        return self.columns(rows).T.reshape(*input.shape[:-1], -1)

    def columns(self, input: Tensor) -> Tensor:
        """Map inputs (in, samples) to outputs (out, samples): as it is computed."""
        product: Tensor = _BlockProduct.apply(input, self.weight, self.placed())  # type: ignore[no-untyped-call]
        return product


class BlockConv2d(_BlockLayer):
    """A convolution without bias, wired as a graph of channels; the same as a masked dense one.

    On a CPU each node is a convolution by itself, which is faster there than grouped ones. It
    cannot be differentiated twice, nor run under `torch.func`.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        into: number of channels of each node in the layer before, (nodes,).
        out: number of channels of each node in the layer, (nodes,).
        kernel: size of the kernel, odd; the input is padded so that a stride of 1 keeps its size.
        stride: of the kernel.
    """

    def __init__(
        self, graph: Graph, into: Tensor, out: Tensor, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__(graph, into, out, (kernel, kernel))
        self.stride, self.padding = stride, kernel // 2

    def placed(self) -> Wiring:
        """Return the wiring with its numbers on the device of the weights."""
        if self._placed is self.wiring and self.weight.device.type == "cpu":
            self._placed = self.wiring.single()
        return super().placed()

    def forward(self, input: Tensor) -> Tensor:
        """Map images (n, in, height, width) to (n, out, height, width)."""
        wiring = self.placed()
        convolved: Tensor = _BlockConvolution.apply(  # type: ignore[no-untyped-call]
            input, self.weight, wiring, self.stride, self.padding
        )
        return convolved
