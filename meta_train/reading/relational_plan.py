"""Layers of classifiers that are wired as graphs, and widths at which all take as many operations.

Source: You et al., Graph Structure of Neural Networks (2020), arXiv:2007.06559, section 5 and
appendix.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.wiring import block_sizes
from meta_train.tasks.ws_flex import Graph

Kind: TypeAlias = Literal["mlp", "cnn", "resnet"]
SIZES_SEED = 1
"""Which nodes have one neuron more than others, where they cannot be shared out evenly."""

WIDTHS = {"mlp": 512, "cnn": 64, "resnet": 64}
"""Published widths of the first hidden layer of the complete graph."""

DEPTHS = {"mlp": 3, "cnn": 3, "resnet": 3}
"""Number of wired layers, or of residual blocks of each of the three stages."""

STAGES = 3


class Layer(NamedTuple):
    """A layer of a plan.

    Args:
        into: number of neurons or channels that it hears.
        out: number of its neurons or channels.
        wired: whether it is wired as the graph; else it is dense.
        kernel: size of the kernel, 1 of a linear layer.
        stride: of the kernel.
        places: number of places of its output that its weights are used at.
    """

    into: int
    out: int
    wired: bool = True
    kernel: int = 1
    stride: int = 1
    places: int = 1


class Shape(NamedTuple):
    """What a network has to do, and how large it is if its graph is complete.

    Args:
        kind: `mlp`, `cnn` or `resnet`.
        channels: of the images.
        size: of the images, in pixels.
        classes: number of them.
        width: of the first hidden layer, for the complete graph.
        depth: number of wired layers of an MLP or a CNN; of residual blocks in each stage.
    """

    kind: Kind
    channels: int
    size: int
    classes: int
    width: int
    depth: int


def plan(shape: Shape, width: int) -> list[Layer]:
    """List the layers of a network.

    In an MLP the first hidden layer keeps its width, and the wired ones have another. The channels
    of convolutions double where their size halves: at each layer of a CNN but the first, and at the
    second and third stage of a ResNet.

    Args:
        shape: of the network.
        width: of the wired layers; in the first stage, if there are stages.
    """
    if shape.kind == "mlp":
        features = shape.channels * shape.size**2
        wired = [Layer(shape.width if n == 0 else width, width) for n in range(shape.depth)]
        return [
            Layer(features, shape.width, wired=False),
            *wired,
            Layer(width, shape.classes, wired=False),
        ]
    layers = [Layer(shape.channels, width, False, 3, 1, shape.size**2)]
    for into, out, stride, size in _blocks(shape, width):
        layers.append(Layer(into, out, True, 3, stride, size**2))
        if shape.kind == "resnet":
            layers.append(Layer(out, out, True, 3, 1, size**2))
            if into != out:
                layers.append(Layer(into, out, True, 1, stride, size**2))
    return [*layers, Layer(layers[-1].out, shape.classes, wired=False)]


def _blocks(shape: Shape, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Channels into and out of each block of a convolutional network, its stride and its size."""
    if shape.kind == "cnn":
        factors = [2 ** min(n, STAGES - 1) for n in range(shape.depth)]
    else:
        factors = [2**stage for stage in range(STAGES) for _ in range(shape.depth)]
    before, size = 1, shape.size
    for factor in factors:
        stride = factor // before
        size = -(-size // stride)
        yield before * width, factor * width, stride, size
        before = factor


def operations(shape: Shape, width: int, graph: Graph) -> int:
    """Multiplications of a forward pass of one image, without those of absent weights."""
    return sum(_weights(layer, graph) * layer.places for layer in plan(shape, width))


def _weights(layer: Layer, graph: Graph) -> int:
    if not layer.wired:
        return layer.into * layer.out * layer.kernel**2
    live = torch.tensor(graph).fill_diagonal_(True).double()
    into, out = (sizes(width, graph).double() for width in (layer.into, layer.out))
    return round(float(out @ live @ into)) * layer.kernel**2


def sizes(width: int, graph: Graph) -> Tensor:
    """Number of neurons of each node in a layer of this width, (nodes,)."""
    return block_sizes(width, len(graph), SIZES_SEED)


def matched_width(shape: Shape, graph: Graph) -> int:
    """Return the smallest width with at least as many operations as the complete graph takes.

    Args:
        shape: of the network.
        graph: adjacency of the nodes.

    Raises:
        MetaTrainError: if the network has fewer neurons than the graph has nodes.
    """
    nodes = len(graph)
    if shape.width < nodes:
        raise MetaTrainError(
            f"a network of width {shape.width} has no neuron for each of {nodes} nodes.\n"
            "  Use a larger width or fewer nodes."
        )
    complete = ~torch.eye(nodes, dtype=torch.bool).numpy()
    wanted = operations(shape, shape.width, complete)
    low, high = nodes - 1, shape.width
    while operations(shape, high, graph) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if operations(shape, middle, graph) < wanted:
            low = middle
        else:
            high = middle
    return high
