"""The small network that sees each entry's own features and the states of its two neurons."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ngopt.features.blocks import FEW
from ngopt.features.entries import Entries
from ngopt.rules.layers.affine import Affine


class EntryHead(nn.Module):
    """One hidden layer per entry, computed unit by unit where stacking features would fill memory.

    A fresh head returns zeros, and does not listen to the neurons: both start at zero.

    Args:
        hidden: number of hidden units.
        width: size of a neuron's state.
        context: size of the features of the bundle.
        generator: draws the weights.
    """

    def __init__(self, hidden: int, width: int, context: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = hidden
        self.entry = Affine(len(Entries._fields), hidden, generator, bias=False)
        self.context = Affine(context, hidden, generator)
        self.out_neuron = Affine(width, hidden, bias=False)
        self.in_neuron = Affine(width, hidden, bias=False)
        self.output = Affine(hidden, 1, bias=False)

    def forward(
        self,
        entries: Entries,
        context: Tensor,
        out_state: Tensor | None = None,
        in_state: Tensor | None = None,
    ) -> Tensor:
        """Compute the raw correction of each entry of a bundle.

        Args:
            entries: features, arrays `(group, out, in, tap)`.
            context: features of the bundle, `(context,)`.
            out_state: states of the output neurons, `(group, out, width)`, if any.
            in_state: states of the input neurons, `(group, in, width)`, if any.

        Returns:
            Array `(group, out, in, tap)`.
        """
        offsets = [self.context(context)]
        if out_state is not None:
            offsets.append(self.out_neuron(out_state)[:, :, None, None])
        if in_state is not None:
            offsets.append(self.in_neuron(in_state)[:, None, :, None])
        if entries.adam.numel() <= FEW:
            return self._at_once(entries, offsets)
        weights, outputs = self.numbers(entries.adam.dtype)
        return unit_by_unit(entries, weights, outputs, [offset.unbind(-1) for offset in offsets])

    def numbers(self, dtype: torch.dtype) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
        """Weights of each hidden unit, one for each feature, and its weight in the output."""
        weights = [unit.unbind() for unit in self.entry.weight.to(dtype).unbind(1)]
        return weights, self.output.weight.to(dtype).squeeze(1).unbind()

    def flat_numbers(self, context: Tensor) -> list[Tensor]:
        """Weights `(features * hidden,)`, output weights and offsets of a bundle `(hidden,)`."""
        weights = [self.entry.weight.flatten(), self.output.weight.flatten()]
        return [weight.to(context) for weight in weights] + [self.context(context)]

    def heard(self, out_state: Tensor, in_state: Tensor) -> tuple[Tensor, Tensor]:
        """What each hidden unit hears of neurons, `(hidden, out)` and `(hidden, in)`.

        Args:
            out_state: states of the output neurons, `(out, width)`.
            in_state: states of the input neurons, `(in, width)`.
        """
        return self.out_neuron(out_state).mT, self.in_neuron(in_state).mT

    def _at_once(self, entries: Entries, offsets: Sequence[Tensor]) -> Tensor:
        """Few operations, which hold features and hidden units of all entries."""
        features = torch.stack(entries, -1)
        hidden = features @ self.entry.weight.to(features)
        for offset in offsets:
            hidden = hidden + offset
        return (torch.relu(hidden) @ self.output.weight.to(features)).squeeze(-1)


def unit_by_unit(
    entries: Entries,
    weights: Sequence[Sequence[Tensor]],
    outputs: Sequence[Tensor],
    offsets: Sequence[Sequence[Tensor]],
) -> Tensor:
    """The network of entries in many operations, none of which holds more than the entries.

    Args:
        entries: features of the entries.
        weights: of each hidden unit, a number for each feature.
        outputs: weight of each hidden unit in the output.
        offsets: of some kinds, each for each hidden unit; they broadcast to the entries.
    """
    correction = torch.zeros_like(entries.adam)
    for weight, output, *others in zip(weights, outputs, *offsets, strict=True):
        first, *factors = weight
        # The features come first: what broadcasts would be laid out in another order of memory
        # than a transposed parameter, and every operation on both be several times slower.
        hidden = entries[0] * first
        for feature, factor in zip(entries[1:], factors, strict=True):
            hidden = torch.addcmul(hidden, feature, factor)
        for offset in others:
            hidden = hidden + offset
        correction = torch.addcmul(correction, torch.relu(hidden), output)
    return correction
