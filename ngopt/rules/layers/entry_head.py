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
        return self._unit_by_unit(entries, offsets)

    def _at_once(self, entries: Entries, offsets: Sequence[Tensor]) -> Tensor:
        """Few operations, which hold features and hidden units of all entries."""
        features = torch.stack(entries, -1)
        hidden = features @ self.entry.weight.to(features)
        for offset in offsets:
            hidden = hidden + offset
        return (torch.relu(hidden) @ self.output.weight.to(features)).squeeze(-1)

    def _unit_by_unit(self, entries: Entries, offsets: Sequence[Tensor]) -> Tensor:
        """Many operations, none of which holds more than the entries."""
        units = [offset.unbind(-1) for offset in offsets]
        weights = self.entry.weight.to(entries.adam).unbind(1)
        outputs = self.output.weight.to(entries.adam).squeeze(1).unbind()
        correction = torch.zeros_like(entries.adam)
        for weight, output, *others in zip(weights, outputs, *units, strict=True):
            first, *factors = weight.unbind()
            # The features come first: what broadcasts would be laid out in another order of memory
            # than a transposed parameter, and every operation on both be several times slower.
            hidden = entries[0] * first
            for feature, factor in zip(entries[1:], factors, strict=True):
                hidden = torch.addcmul(hidden, feature, factor)
            for offset in others:
                hidden = hidden + offset
            correction = torch.addcmul(correction, torch.relu(hidden), output)
        return correction
