"""Layers wired as a graph between blocks of neurons, computed without the weights that are absent.

What a masked dense layer multiplies by zero is neither stored nor computed: each node gathers the
blocks of its neighbours, and nodes with as many neighbours are one batched product.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from meta_train.tasks.wiring import Direction, Group, Wiring
from meta_train.tasks.ws_flex import Graph

_input_gradient: Callable[..., Tensor] = conv2d_input
_kernel_gradient: Callable[..., Tensor] = conv2d_weight


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
    """Weights of a group's nodes side by side: (nodes, own, degree * source, ...)."""
    own = blocks.index_select(0, group.blocks)
    own = own.view(group.nodes, group.degree, *own.shape[1:])
    own = own.transpose(1, 3) if flipped else own.transpose(1, 2)
    return (own.transpose(2, 3) if flipped else own).flatten(2, 3)


def _product(direction: Direction, blocks: Tensor, x: Tensor) -> Tensor:
    """Multiply neurons in rows (in, samples) by blocks of weights: (out, samples)."""
    filled, results = _filled(x, 0), []
    for group in direction.groups:
        inputs = _scratch.gathered(filled, 0, group.rows).view(group.nodes, -1, x.shape[1])
        matrices = _matrices(blocks, group, flipped=direction.flipped)
        results.append(torch.bmm(matrices, inputs).flatten(0, 1))
    return torch.cat(results).index_select(0, direction.place)


def _weight_gradient(direction: Direction, x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the blocks (blocks, rows, columns), in the order that forward groups use them."""
    filled, arrived, found = _filled(x, 0), _filled(gradient, 0), []
    for group in direction.groups:
        inputs = _scratch.gathered(filled, 0, group.rows).view(group.nodes, -1, x.shape[1])
        own = arrived.index_select(0, group.own).view(group.nodes, -1, x.shape[1])
        found.append(_blocks_of(torch.bmm(own, inputs.transpose(1, 2)), group))
    return torch.cat(found)


def _blocks_of(matrices: Tensor, group: Group) -> Tensor:
    """Blocks of matrices (nodes, own, degree * source, ...) of a group."""
    nodes, rows, columns, *kernel = matrices.shape
    blocks = matrices.view(nodes, rows, group.degree, columns // group.degree, *kernel)
    return blocks.transpose(1, 2).flatten(0, 1)


class _BlockProduct(torch.autograd.Function):
    """Product with gathered blocks; backwards it gathers too, where autograd would scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Tensor, wiring: Wiring) -> Tensor:
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
        ctx: Any, x: Tensor, blocks: Tensor, wiring: Wiring, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, blocks)
        ctx.wiring, ctx.stride, ctx.padding = wiring, stride, padding
        filled, results = _filled(x, 1), []
        for group in wiring.forwards.groups:
            weight = _matrices(blocks, group, flipped=False).flatten(0, 1)
            inputs = _scratch.gathered(filled, 1, group.rows)
            results.append(conv2d(inputs, weight, None, stride, padding, groups=group.nodes))
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
                inputs = _scratch.gathered(arrived, 1, group.rows)
                results.append(_input_gradient(shape, weight, inputs, *options, group.nodes))
            to_x = torch.cat(results, 1).index_select(1, wiring.backwards.place)
        if ctx.needs_input_grad[1]:
            found = []
            for group in wiring.forwards.groups:
                columns = len(group.rows) // group.nodes
                shape = (len(group.own), columns, *blocks.shape[3:])
                inputs = _scratch.gathered(filled, 1, group.rows)
                own = arrived.index_select(1, group.own)
                weight = _kernel_gradient(inputs, shape, own, *options, group.nodes)
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
