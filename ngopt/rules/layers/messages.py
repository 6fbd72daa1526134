"""Message passing between neurons by products of whole matrices, never edge by edge."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ngopt.features.blocks import FEW, Block, add_columns, add_rows
from ngopt.features.neurons import Ends, IncidentMean, Neurons
from ngopt.features.scale import root_inverse
from ngopt.features.survey import Matrices, Survey
from ngopt.rules.layers.affine import Affine

MATRICES = len(Matrices._fields)


class Carrier(Protocol):
    """What messages travel along: a bundle's edges."""

    @property
    def shape(self) -> torch.Size:
        """`(group, out, in, tap)`."""

    def matrices(self) -> Iterator[tuple[Block, Matrices]]:
        """The matrices that carry messages, block by block."""


class Link:
    """A bundle as messages see it.

    Args:
        ends: the sets of neurons that it connects.
        carrier: its edges.
        survey: of all of it.
        source: state that stands for neurons at an end that has none, `(width,)`.
    """

    def __init__(self, ends: Ends, carrier: Carrier, survey: Survey, source: Tensor) -> None:
        self.ends, self.carrier, self.source = ends, carrier, source
        self._factors = root_inverse(torch.stack(survey.matrices)).unsqueeze(1)
        self._stack: Tensor | None = None
        if carrier.shape.numel() <= FEW:
            found = list(carrier.matrices())
            if len(found) == 1:
                self._stack = torch.stack(found[0][1], 1)

    def messages(self, states: Mapping[Neurons, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """Products of the matrices, at unit RMS, and the states at the other end.

        Returns:
            Messages to the output neurons, `(group * out, MATRICES * width)`, and to the input
            neurons, `(group * in, MATRICES * width)`; None where there are no neurons.
        """
        shape, (out, into) = self.carrier.shape, self.ends
        out_state, in_state = self.out_state(states), self.in_state(states)
        to_out: Tensor | None = None
        to_in: Tensor | None = None
        if self._stack is not None:
            to_out = _at_once(self._stack, in_state) if out else None
            to_in = _at_once(self._stack.mT, out_state) if into else None
        else:
            for block, matrices in self.carrier.matrices():
                if out:
                    heard = block.columns(in_state)
                    rows = torch.stack([matrix @ heard for matrix in matrices], 2)
                    to_out = add_rows(to_out, block, rows, shape)
                if into:
                    said = block.rows(out_state)
                    columns = torch.stack([matrix.mT @ said for matrix in matrices], 2)
                    to_in = add_columns(to_in, block, columns, shape)
        return self._joined(to_out, shape[2]), self._joined(to_in, shape[1])

    def _joined(self, products: Tensor | None, count: int) -> Tensor | None:
        """Join `(group, neurons, MATRICES, width)`, each number a sum over so many neurons."""
        if products is None:
            return None
        scaled = products * (self._factors * float(count**-0.5))
        return scaled.flatten(2).flatten(0, 1)

    def out_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the output neurons, `(group, out, width)`."""
        return self._state(states, self.ends.out, self.carrier.shape[1])

    def in_state(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """States of the input neurons, `(group, in, width)`."""
        return self._state(states, self.ends.into, self.carrier.shape[2])

    def _state(self, states: Mapping[Neurons, Tensor], neurons: Neurons, size: int) -> Tensor:
        group = self.carrier.shape[0]
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
            if to_out is not None:
                said.add(link.ends.out, self.to_out(to_out))
            if to_in is not None:
                said.add(link.ends.into, self.to_in(to_in))
        heard = said.result()
        return {
            neurons: torch.tanh(self.keep(state) + heard[neurons])
            for neurons, state in states.items()
        }


def _at_once(stack: Tensor, state: Tensor) -> Tensor:
    """Multiply all matrices by the states, as one operation, where this may take some memory."""
    return (stack @ state.unsqueeze(1)).transpose(1, 2)
