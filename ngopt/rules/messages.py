"""Message passing between neurons by products of whole matrices, never edge by edge."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ngopt.features.entries import Edges
from ngopt.features.neurons import Ends, IncidentMean, Neurons
from ngopt.features.scale import root_inverse
from ngopt.rules.affine import Affine

MATRICES = 3


class Link(NamedTuple):
    """A bundle as messages see it.

    Args:
        ends: the sets of neurons that it connects.
        matrices: weight, Adam direction and fast momentum, averaged over taps, `(group, out, in)`.
        factors: one over the RMS of each, 0-dim.
        source: state that stands for neurons at an end that has none, `(width,)`.
    """

    ends: Ends
    matrices: tuple[Tensor, ...]
    factors: tuple[Tensor, ...]
    source: Tensor

    @classmethod
    def of(cls, ends: Ends, edges: Edges, source: Tensor) -> "Link":
        """Average the arrays of a bundle over taps and measure them."""
        arrays = (edges.weight, edges.adam, edges.moments.fast)
        matrices = tuple(_over_taps(array) for array in arrays)
        factors = tuple(root_inverse(matrix.square().mean()) for matrix in matrices)
        return cls(ends, matrices, factors, source)

    def to_out(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """Messages to the output neurons, `(group * out, MATRICES * width)`."""
        return self._product(self.in_state(states), transposed=False)

    def to_in(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """Messages to the input neurons, `(group * in, MATRICES * width)`."""
        return self._product(self.out_state(states), transposed=True)

    def out_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the output neurons, `(group, out, width)`."""
        return self._state(states, self.ends.out, self.matrices[0].shape[1])

    def in_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the input neurons, `(group, in, width)`."""
        return self._state(states, self.ends.into, self.matrices[0].shape[2])

    def _state(self, states: Mapping[Neurons, Tensor], neurons: Neurons, size: int) -> Tensor:
        group = self.matrices[0].shape[0]
        if not neurons:
            return self.source.expand(group, size, -1)
        return states[neurons].reshape(group, size, -1)

    def _product(self, state: Tensor, transposed: bool) -> Tensor:
        parts = []
        for matrix, factor in zip(self.matrices, self.factors, strict=True):
            turned = matrix.transpose(1, 2) if transposed else matrix
            parts.append(turned @ state * (factor * turned.shape[2] ** -0.5))
        return torch.cat(parts, -1).flatten(0, 1)


def _over_taps(array: Tensor) -> Tensor:
    # A lone tap is dropped as a view, for the mean would copy the whole array.
    return array.squeeze(3) if array.shape[3] == 1 else array.mean(3)


class Round(nn.Module):
    """One round: each neuron mixes its state with the mean of what its bundles say.

    Args:
        width: size of a neuron's state.
        generator: draws the weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.keep = Affine(width, width, generator)
        self.to_out = Affine(MATRICES * width, width, generator, bias=False)
        self.to_in = Affine(MATRICES * width, width, generator, bias=False)

    def forward(
        self, links: Sequence[Link], states: Mapping[Neurons, Tensor]
    ) -> dict[Neurons, Tensor]:
        """Return new states `(neurons, width)`, each between -1 and 1."""
        said = IncidentMean()
        for link in links:
            if link.ends.out:
                said.add(link.ends.out, self.to_out(link.to_out(states)))
            if link.ends.into:
                said.add(link.ends.into, self.to_in(link.to_in(states)))
        heard = said.result()
        return {
            neurons: torch.tanh(self.keep(state) + heard[neurons])
            for neurons, state in states.items()
        }
