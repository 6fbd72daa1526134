"""The multilayer perceptron of the learned optimizers of Metz et al."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ngopt.rules.layers.affine import Affine


class Perceptron(nn.Module):
    """Affine maps with ReLU between them.

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
