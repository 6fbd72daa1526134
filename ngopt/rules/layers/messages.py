"""Message passing between neurons by products of whole matrices, never edge by edge."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ngopt.features.blocks import add_columns, add_rows
from ngopt.features.neurons import Ends, IncidentMean, Neurons
from ngopt.features.scale import root_inverse
from ngopt.features.strand import Strand
from ngopt.features.survey import Matrices, Survey
from ngopt.rules.layers.affine import Affine

MATRICES = len(Matrices._fields)


class Link(NamedTuple):
    """A bundle as messages see it.

    Args:
        ends: the sets of neurons that it connects.
        strand: its edges, block by block.
        survey: of all of it.
        source: state that stands for neurons at an end that has none, `(width,)`.
    """

    ends: Ends
    strand: Strand
    survey: Survey
    source: Tensor

    def messages(self, states: Mapping[Neurons, Tensor]) -> tuple[Tensor, Tensor]:
        """Products of the matrices, at unit RMS, and the states at the other end.

        Returns:
            Messages to the output neurons, `(group * out, MATRICES * width)`, and to the input
            neurons, `(group * in, MATRICES * width)`.
        """
        shape = self.strand.gradient.shape
        out_state, in_state = self.out_state(states), self.in_state(states)
        factors = [root_inverse(square) for square in self.survey.matrices]
        to_out: Tensor | None = None
        to_in: Tensor | None = None
        for block, edges, _ in self.strand:
            matrices = Matrices.of(edges)
            heard, said = block.columns(in_state), block.rows(out_state)
            rows = [m @ (heard * f) for m, f in zip(matrices, factors, strict=True)]
            columns = [m.mT @ (said * f) for m, f in zip(matrices, factors, strict=True)]
            to_out = add_rows(to_out, block, torch.cat(rows, -1), shape)
            to_in = add_columns(to_in, block, torch.cat(columns, -1), shape)
        assert to_out is not None
        assert to_in is not None
        return (to_out * shape[2] ** -0.5).flatten(0, 1), (to_in * shape[1] ** -0.5).flatten(0, 1)

    def out_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the output neurons, `(group, out, width)`."""
        return self._state(states, self.ends.out, self.strand.gradient.shape[1])

    def in_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the input neurons, `(group, in, width)`."""
        return self._state(states, self.ends.into, self.strand.gradient.shape[2])

    def _state(self, states: Mapping[Neurons, Tensor], neurons: Neurons, size: int) -> Tensor:
        group = self.strand.gradient.shape[0]
        if not neurons:
            return self.source.expand(group, size, -1)
        return states[neurons].reshape(group, size, -1)


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
            to_out, to_in = link.messages(states)
            if link.ends.out:
                said.add(link.ends.out, self.to_out(to_out))
            if link.ends.into:
                said.add(link.ends.into, self.to_in(to_in))
        heard = said.result()
        return {
            neurons: torch.tanh(self.keep(state) + heard[neurons])
            for neurons, state in states.items()
        }
