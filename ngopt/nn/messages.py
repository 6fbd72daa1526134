"""Message passing between neurons by products of whole matrices, never edge by edge."""

import torch
from torch import Tensor, nn

from ngopt.features.bundle_statistics import MessageMatrices
from ngopt.nn.affine import Affine

MATRICES = len(MessageMatrices._fields)


class Round(nn.Module):
    """One round: each neuron mixes its state with the mean of what its bundles say.

    A bundle says to its output neurons what `to_out` makes of the products of its matrices with the
    states of its input neurons, and to its input neurons what `to_in` makes of the products with
    the states of its output neurons, `(..., MATRICES * width)`.

    Args:
        width: size of a neuron's state.
        generator: draws the weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.keep = Affine(width, width, generator)
        self.to_out = Affine(MATRICES * width, width, generator, bias=False)
        self.to_in = Affine(MATRICES * width, width, generator, bias=False)

    def forward(self, states: Tensor, said: Tensor) -> Tensor:
        """Return new states, each between -1 and 1.

        Args:
            states: of all neurons, `(..., neurons, width)`.
            said: mean of what the bundles of each neuron say, of the same shape.
        """
        return torch.tanh(self.keep(states) + said)
