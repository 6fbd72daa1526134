"""Statistics of whole parameters: the baseline without single entries and neurons."""

from typing import Any

import torch
from torch import Tensor

from ngopt.encoders.encoder import Architecture, Encoder, Example, check_sizes, check_some
from ngopt.encoders.networks import Networks, Stack
from ngopt.features.bundle_features import KINDS
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.sets import STATISTICS, set_statistics

BINS = 4
"""Parts of the depth of a network, in which tensors of one kind are taken together."""


class StatNN(Encoder):
    """A network of the mean, variance and quantiles of each parameter.

    With an example, the statistics of all its parameters stand beside each other. Without, they are
    averaged over the parameters of the same kind of layer in the same quarter of the depth, weights
    and biases apart, so that any networks can be read.

    Args:
        example: a graph or networks of the one architecture that is read; any is, without.
        width: size of the encoding, and number of units of each hidden layer.
        layers: number of hidden layers.
        seed: of the draw of the weights.

    Raises:
        EncoderError: if a size makes no sense.

    Source: Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020, for the
    seven statistics.
    """

    def __init__(
        self, example: Example | None = None, width: int = 128, layers: int = 2, *, seed: int = 0
    ) -> None:
        super().__init__(width, seed)
        check_sizes("StatNN", layers=layers)
        self.layers = layers
        self.architecture = None if example is None else Architecture(example)
        inputs = STATISTICS * self._rows
        self.net = FeedForward([inputs, *[width] * layers, width], self.generator)
        self.mean: Tensor
        self.size: Tensor
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("size", torch.ones(inputs))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {
            "example": None if self.architecture is None else self.architecture.plain,
            "width": self.width,
            "layers": self.layers,
            "seed": self.seed,
        }

    @property
    def _rows(self) -> int:
        if self.architecture is None:
            return 2 * len(KINDS) * BINS
        return len(self.architecture.graph.parameters)

    def fit_scale(self, networks: Networks) -> None:
        """Measure mean and size of the statistics, for what is read from now on."""
        x = self.statistics(networks).double()
        size = x.std(0, correction=0)
        known = size > 1e-12
        self.mean.copy_(torch.where(known, x.mean(0), 0))
        self.size.copy_(torch.where(known, size, 1))

    def encode(self, networks: Networks) -> Tensor:
        """Return a vector for each network, `(networks, width)`; as every `Encoder` does."""
        x = self.statistics(networks)
        result: Tensor = self.net((x - self.mean.to(x)) / self.size.to(x))
        return networks.in_order([result])

    def statistics(self, networks: Networks) -> Tensor:
        """Compute the statistics, `(networks, rows * STATISTICS)`, stack by stack.

        Raises:
            EncoderError: if the encoder was made for other networks.
        """
        check_some(networks)
        if self.architecture is not None:
            self.architecture.check(networks, "StatNN")
        return torch.cat([self._of_stack(stack) for stack in networks])

    def _of_stack(self, stack: Stack) -> Tensor:
        rows = [_row(stack.graph, name, layout) for name, layout in self._tensors(stack)]
        if self.architecture is not None:
            rows = list(range(len(rows)))
        like = next(iter(stack.parameters.values()))
        total = like.new_zeros(len(stack), self._rows, STATISTICS)
        if not rows:
            return total.flatten(1)
        found = torch.stack(
            [_statistics(stack.parameters[name]) for name, _ in self._tensors(stack)], 1
        )
        index = torch.tensor(rows, device=like.device)
        counts = index.bincount(minlength=self._rows).clamp(min=1)
        return (total.index_add(1, index, found) / counts.unsqueeze(1)).flatten(1)

    @staticmethod
    def _tensors(stack: Stack) -> list[tuple[str, Layout]]:
        return [(name, layout) for name, layout in stack.graph.parameters.items() if layout.bundles]


def _statistics(parameter: Tensor) -> Tensor:
    """Statistics of one parameter of each network, `(networks, STATISTICS)`."""
    return set_statistics(parameter.flatten(1).T).view(STATISTICS, -1).T


def _row(graph: NeuralGraph, name: str, layout: Layout) -> int:
    """Which parameters of any networks a parameter is averaged with."""
    bias = all("in" not in bundle.roles for bundle in layout.bundles)
    part = min(int(BINS * layout.depth), BINS - 1)
    return (2 * KINDS.index(layout.kind) + bias) * BINS + part
