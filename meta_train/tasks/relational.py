"""Relational-graph networks: sparse MLPs and convnets wired as a graph between blocks of neurons.

Each node of the graph owns a block of the neurons of every hidden layer, and hears from its own
block and those of its neighbours in the layer before. Source: You et al., Graph Structure of Neural
Networks (2020), arXiv:2007.06559.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.spec import look_up
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import activation as make_activation
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.wiring import block_sizes, dense_mask
from meta_train.tasks.ws_flex import Graph, connected, with_measures


def block_mask(graph: Graph, width: int) -> Tensor:
    """Expand a graph to neurons: `mask[i, j]` is 1 where neuron `i` hears from neuron `j`.

    Args:
        graph: adjacency of the nodes; self-loops are added.
        width: number of neurons, spread over the nodes as evenly as can be.

    Returns:
        Zeros and ones, (width, width).

    Raises:
        MetaTrainError: if there are fewer neurons than nodes.
    """
    sizes = block_sizes(width, len(graph))
    return dense_mask(graph, sizes, sizes)


class MaskedLinear(nn.Linear):
    """A linear layer from some neurons to some; the other weights are 0 and stay it.

    Args:
        mask: 1 where there is a weight, (out, in).
        bias: whether there is one.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        out, into = mask.shape
        super().__init__(into, out, bias)
        self.register_buffer("mask", mask)
        _start_masked(self, mask)

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs (..., in) to outputs (..., out)."""
        return nn.functional.linear(input, self.weight * self.mask, self.bias)


class MaskedConv2d(nn.Conv2d):
    """A convolution from some channels to some; the other weights are 0 and stay it.

    Args:
        mask: 1 where there are weights, (out, in).
        kernel: size of the kernel, odd; the input is padded so that a stride of 1 keeps its size.
        stride: of the kernel.
        bias: whether there is one.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        out, into = mask.shape
        super().__init__(into, out, kernel, stride, kernel // 2, bias=bias)
        self.register_buffer("mask", mask[:, :, None, None])
        _start_masked(self, self.mask)

    def forward(self, input: Tensor) -> Tensor:
        """Map images (n, in, height, width) to (n, out, height, width)."""
        weight = self.weight * self.mask
        return nn.functional.conv2d(input, weight, self.bias, self.stride, self.padding)


def _start_masked(layer: nn.Linear | nn.Conv2d, mask: Tensor) -> None:
    """Make torch's initial weights those of layers with as many inputs as each neuron has."""
    live = mask.flatten(1).mean(1)
    with torch.no_grad():
        layer.weight.mul_(mask / live.view(-1, *[1] * (mask.dim() - 1)).sqrt())
        if layer.bias is not None:
            layer.bias.div_(live.sqrt())


@register("relational")
@dataclass(frozen=True)
class Relational(Family):
    """Sparse classifiers wired as relational graphs; the first and the last layer are dense.

    Args:
        kind: `mlp` or `convnet`.
        data: image data sets.
        size: of the images, in pixels.
        width: neurons or channels of the hidden layers, at least as many as nodes.
        depth: number of sparse layers, all wired alike.
        nodes: of the graph.
        degree: average number of neighbours of a node, 2 to nodes - 1.
        rewiring: share of edges that lead anywhere, 0 (a ring) to 1 (a random graph).
        path_length: average path length of the graph, in edges. If it is not 0, a graph of this
            path length and clustering is searched for, and degree and rewiring are not used.
        clustering: clustering coefficient of the graph; used with `path_length`.
        graph: seeds of graphs; each is another graph of the same kind.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.
    """

    kind: tuple[str, ...] = ("mlp", "convnet")
    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (32, 64)
    depth: tuple[int, ...] = (1, 2, 3)
    nodes: tuple[int, ...] = (16,)
    degree: tuple[float, ...] = (3.0, 5.0, 8.0)
    rewiring: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    path_length: tuple[float, ...] = (0.0,)
    clustering: tuple[float, ...] = (0.0,)
    graph: tuple[int, ...] = (0, 1, 2, 3)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self,
        kind: str,
        data: str,
        size: int,
        width: int,
        depth: int,
        activation: str,
        batch: int,
        nodes: int,
        degree: float,
        rewiring: float,
        path_length: float,
        clustering: float,
        graph: int,
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if there is no such kind or graph.
        """
        first, sparse, last = look_up(_LAYERS, kind, "kind of relational network")
        if path_length:
            wiring = with_measures(nodes, clustering, path_length, graph)
        else:
            wiring = connected(nodes, degree, rewiring, graph)
        dataset, mask = images(data, size), block_mask(wiring, width)
        shape = dataset.splits["train"][0].shape[1:]

        def build() -> nn.Module:
            layers = [*first(shape, width), make_activation(activation)]
            for _ in range(depth):
                layers += [sparse(mask), make_activation(activation)]
            return nn.Sequential(*layers, *last(width, dataset.classes))

        return ModelTask(build, dataset, cross_entropy, batch)


def _mlp_first(shape: torch.Size, width: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(shape.numel(), width)]


def _mlp_last(width: int, classes: int) -> list[nn.Module]:
    return [nn.Linear(width, classes)]


def _convnet_first(shape: torch.Size, width: int) -> list[nn.Module]:
    return [nn.Conv2d(shape[0], width, 3, stride=2, padding=1)]


def _convnet_last(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


_LAYERS = {
    "mlp": (_mlp_first, MaskedLinear, _mlp_last),
    "convnet": (_convnet_first, MaskedConv2d, _convnet_last),
}
