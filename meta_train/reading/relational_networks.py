"""Classifiers wired as relational graphs.

The first and the last layer are dense, all others are wired. Source: You et al., Graph Structure of
Neural Networks (2020), arXiv:2007.06559, section 5 and appendix.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from meta_train.reading.relational_plan import Layer, Shape, plan, sizes
from meta_train.tasks.block_layers import BlockConv2d, BlockLinear
from meta_train.tasks.relational import MaskedConv2d, MaskedLinear
from meta_train.tasks.wiring import dense_mask
from meta_train.tasks.ws_flex import Graph

Compute: TypeAlias = Literal["auto", "blocks", "masked"]

DENSEST = 0.2
"""Share of weights that are there up to which gathered blocks are faster than a masked product."""


def network(
    shape: Shape, graph: Graph, width: int, seed: int, compute: Compute = "auto"
) -> nn.Module:
    """Build a network; the same function whichever way it is computed.

    Weights of linear layers are drawn from N(0, 0.01^2), those of convolutions from N(0, 2 / n),
    with n = kernel^2 * out.

    Args:
        shape: of the network.
        graph: adjacency of the nodes.
        width: of the wired layers; see `matched_width`.
        seed: of the weights.
        compute: wired layers by gathered `blocks` or as `masked` dense ones; by default whichever
            is faster on a CPU.
    """
    with torch.random.fork_rng(devices=[]):  # torch's layers draw weights, which are not used
        built = _built(shape, graph, width, compute)
    _draw(built, torch.Generator().manual_seed(seed))
    return built


def _built(shape: Shape, graph: Graph, width: int, compute: Compute) -> nn.Module:
    build = _linear if shape.kind == "mlp" else _convolution
    *hidden, last = plan(shape, width)
    layers = [build(layer, graph, compute) for layer in hidden]
    head = nn.Linear(last.into, last.out)
    if shape.kind == "mlp":
        return RelationalMLP(layers, head)
    return RelationalCNN(layers, head) if shape.kind == "cnn" else RelationalResNet(layers, head)


class RelationalMLP(nn.Module):
    """Linear layers with batch normalization and ReLU in between; images are flattened.

    Args:
        layers: of hidden neurons; the first is dense.
        head: the last layer.
    """

    def __init__(self, layers: Sequence[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head
        self.norms = nn.ModuleList(nn.BatchNorm1d(_width(layer)) for layer in layers)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, ...) to logits (n, classes)."""
        x = images.flatten(1)
        if any(isinstance(layer, BlockLinear) for layer in self.layers):
            x = self._in_rows(x.T).T
        else:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = norm(layer(x)).relu()
        logits: Tensor = self.head(x)
        return logits

    def _in_rows(self, x: Tensor) -> Tensor:
        """Hidden neurons (neurons, n) of inputs (in, n), as wired layers gather them."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            weight: Any = layer.weight
            y = layer.columns(x) if isinstance(layer, BlockLinear) else weight @ x
            x = norm(y[None])[0].relu()
        return x


class RelationalCNN(nn.Sequential):
    """Convolutions with batch normalization and ReLU, the mean over places, and a linear layer.

    Args:
        layers: convolutions; the first is dense.
        head: the last layer.
    """

    def __init__(self, layers: Sequence[nn.Module], head: nn.Linear) -> None:
        parts = [
            part for layer in layers for part in (layer, nn.BatchNorm2d(_width(layer)), nn.ReLU())
        ]
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class RelationalResNet(nn.Sequential):
    """Residual blocks of two convolutions; where widths differ, the shortcut is a wired one too.

    Args:
        layers: a dense convolution, then two of each block, followed by its shortcut if it has one.
        head: the last layer.
    """

    def __init__(self, layers: Sequence[nn.Module], head: nn.Linear) -> None:
        stem, *rest = layers
        parts: list[nn.Module] = [stem, nn.BatchNorm2d(_width(stem)), nn.ReLU()]
        while rest:
            first, second, *rest = rest
            shortcut = None
            if _inputs(first) != _width(first):
                shortcut, *rest = rest
            parts.append(_Residual(first, second, shortcut))
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


class _Residual(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            first,
            nn.BatchNorm2d(_width(first)),
            nn.ReLU(),
            second,
            nn.BatchNorm2d(_width(second)),
        )
        self.shortcut = nn.Sequential()
        if shortcut is not None:
            self.shortcut.extend([shortcut, nn.BatchNorm2d(_width(shortcut))])

    def forward(self, input: Tensor) -> Tensor:
        """Map images to images."""
        summed: Tensor = self.inner(input) + self.shortcut(input)
        return summed.relu()


def dense_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and state buffers by the names they have if wired layers are masked dense ones.

    They are copies; masks are left out.

    Args:
        network: made by :func:`network`.
    """
    modules = dict(network.named_modules())
    found = {}
    for name, tensor in network.state_dict().items():
        owner, _, own = name.rpartition(".")
        module = modules[owner]
        if own == "mask":
            continue
        blocks = isinstance(module, BlockLinear | BlockConv2d)
        found[name] = module.dense().detach() if blocks else tensor.detach().clone()
    return found


def _linear(layer: Layer, graph: Graph, compute: Compute) -> nn.Module:
    if not layer.wired:
        return nn.Linear(layer.into, layer.out, bias=False)
    into, out = sizes(layer.into, graph), sizes(layer.out, graph)
    if _in_blocks(graph, compute):
        return BlockLinear(graph, into, out)
    return MaskedLinear(dense_mask(graph, into, out), bias=False)


def _convolution(layer: Layer, graph: Graph, compute: Compute) -> nn.Module:
    kernel, stride = layer.kernel, layer.stride
    if not layer.wired:
        return nn.Conv2d(layer.into, layer.out, kernel, stride, kernel // 2, bias=False)
    into, out = sizes(layer.into, graph), sizes(layer.out, graph)
    if _in_blocks(graph, compute):
        return BlockConv2d(graph, into, out, kernel, stride)
    return MaskedConv2d(dense_mask(graph, into, out), kernel, stride, bias=False)


def _in_blocks(graph: Graph, compute: Compute) -> bool:
    density = (graph.sum() + len(graph)) / len(graph) ** 2
    return compute == "blocks" or (compute == "auto" and density <= DENSEST)


def _width(layer: nn.Module) -> int:
    return _shape(layer)[0]


def _inputs(layer: nn.Module) -> int:
    return _shape(layer)[1]


def _shape(layer: nn.Module) -> torch.Size:
    """Shape of the weight of a dense layer that computes the same."""
    if isinstance(layer, BlockLinear | BlockConv2d):
        return layer.shape
    weight: Any = layer.weight
    shape: torch.Size = weight.shape
    return shape


def _draw(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights, those of the masked layer also where the same ones stand in blocks."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | BlockLinear | BlockConv2d):
            shape = _shape(layer)
            scale = 0.01 if len(shape) == 2 else (2 / (math.prod(shape[2:]) * shape[0])) ** 0.5
            weight = scale * torch.randn(shape, generator=generator)
            if isinstance(layer, BlockLinear | BlockConv2d):
                layer.load_dense(weight)
                continue
            mask = getattr(layer, "mask", None)
            layer.weight.data = weight if mask is None else weight * mask
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
