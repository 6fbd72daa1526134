"""A stack of affine maps, along the last axis."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ngopt.rules.layers.affine import Affine


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
