"""Message passing between neurons by products of whole matrices, never edge by edge."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ngopt.features.blocks import FEW, add_columns, add_rows
from ngopt.features.neurons import Ends, IncidentMean, Neurons
from ngopt.features.scale import root_inverse
from ngopt.features.strand import Strand
from ngopt.features.survey import Matrices, Survey
from ngopt.rules.layers.affine import Affine

MATRICES = len(Matrices._fields)


class Link:
    """A bundle as messages see it.

    Args:
        ends: the sets of neurons that it connects.
        strand: its edges, block by block.
        survey: of all of it.
        source: state that stands for neurons at an end that has none, `(width,)`.
    """

    def __init__(self, ends: Ends, strand: Strand, survey: Survey, source: Tensor) -> None:
        self.ends, self.strand, self.source = ends, strand, source
        self._factors = root_inverse(torch.stack(survey.matrices)).unsqueeze(1)
        self._stack: Tensor | None = None
        if strand.gradient.numel() <= FEW and len(strand.blocks) == 1:
            ((_, edges, _),) = strand
            self._stack = torch.stack(Matrices.of(edges), 1)

    def to_out(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """Products of the matrices, at unit RMS, and the states of the input neurons.

        Returns:
            Messages to the output neurons, `(group * out, MATRICES * width)`.
        """
        shape, state = self.strand.gradient.shape, self.in_state(states)
        if self._stack is not None:
            return self._joined(_at_once(self._stack, state), shape[2])
        total: Tensor | None = None
        for block, edges, _ in self.strand:
            heard = block.columns(state)
            products = torch.stack([matrix @ heard for matrix in Matrices.of(edges)], 2)
            total = add_rows(total, block, products, shape)
        assert total is not None
        return self._joined(total, shape[2])

    def to_in(self, states: Mapping[Neurons, Tensor]) -> Tensor:
        """Do the same the other way: `(group * in, MATRICES * width)`."""
        shape, state = self.strand.gradient.shape, self.out_state(states)
        if self._stack is not None:
            return self._joined(_at_once(self._stack.mT, state), shape[1])
        total: Tensor | None = None
        for block, edges, _ in self.strand:
            heard = block.rows(state)
            products = torch.stack([matrix.mT @ heard for matrix in Matrices.of(edges)], 2)
            total = add_columns(total, block, products, shape)
        assert total is not None
        return self._joined(total, shape[1])

    def _joined(self, products: Tensor, count: int) -> Tensor:
        """Join `(group, neurons, MATRICES, width)`, each number a sum over so many neurons."""
        scaled = products * (self._factors * float(count**-0.5))
        return scaled.flatten(2).flatten(0, 1)

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
            if link.ends.out:
                said.add(link.ends.out, self.to_out(link.to_out(states)))
            if link.ends.into:
                said.add(link.ends.into, self.to_in(link.to_in(states)))
        heard = said.result()
        return {
            neurons: torch.tanh(self.keep(state) + heard[neurons])
            for neurons, state in states.items()
        }


def _at_once(stack: Tensor, state: Tensor) -> Tensor:
    """Multiply all matrices by the states, as one operation, where this may take some memory."""
    return (stack @ state.unsqueeze(1)).transpose(1, 2)
