"""The small network that sees each entry's own features and the states of its two neurons."""

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from ngopt.features.entry_features import Entries
from ngopt.nn.affine import Affine


class EntryHead(nn.Module):
    """One hidden layer per entry.

    Features of its bundle enter through `context`, states of its neurons through `out_neuron` and
    `in_neuron`. A fresh head returns zeros and ignores the neurons, since both start at zero.

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

    @property
    def weights(self) -> list[Tensor]:
        """What :meth:`parameters` yields, in less time."""
        layers = (self.entry, self.context, self.out_neuron, self.in_neuron, self.output)
        tensors = chain.from_iterable((layer.weight, layer.bias) for layer in layers)
        return [tensor for tensor in tensors if tensor is not None]

    def forward(self, features: Tensor, offsets: Iterable[Tensor]) -> Tensor:
        """Compute the raw correction of each entry, with the features of all at once.

        Args:
            features: of the entries, `(runs, ..., len(Entries))`.
            offsets: of the hidden units, `(..., hidden)`, from bundles and from neurons; they
                broadcast to the entries.

        Returns:
            `(runs, ...)`.
        """
        hidden: Tensor = self.entry(features.flatten(1, -2))
        hidden = hidden.reshape(*features.shape[:-1], -1)
        for offset in offsets:
            hidden = hidden + offset
        output: Tensor = self.output(torch.relu(hidden).flatten(1, -2))
        return output.reshape(features.shape[:-1])


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
