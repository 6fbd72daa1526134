"""Stacks of affine maps, along the last axis."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine


class FeedForward(nn.Module):
    """Affine maps with SiLU between them.

    Args:
        sizes: number of inputs, of units of each hidden layer, and of outputs.
        generator: draws the weights.
        zero: whether the last map starts at zero.
    """

    def __init__(
        self, sizes: Sequence[int], generator: torch.Generator, zero: bool = False
    ) -> None:
        super().__init__()
        last = len(sizes) - 2
        self.layers = nn.ModuleList(
            Affine(inputs, outputs, None if zero and number == last else generator)
            for number, (inputs, outputs) in enumerate(pairwise(sizes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., sizes[0])` to `(..., sizes[-1])`."""
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(nn.functional.silu(x))
        return x


class Perceptron(nn.Module):
    """Affine maps with ReLU between them: that of the learned optimizers of Metz et al.

    Args:
        sizes: number of inputs, of units of each hidden layer, and of outputs.
        generator: draws the weights, normal with variance `1 / inputs`, cut off at twice its root;
            biases start at zero.
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for inputs, outputs in pairwise(sizes):
            layer, size = Affine(inputs, outputs), inputs**-0.5
            nn.init.trunc_normal_(layer.weight, 0.0, size, -2 * size, 2 * size, generator)
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., sizes[0])` to `(..., sizes[-1])`."""
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(torch.relu(x))
        return x
