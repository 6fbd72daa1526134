"""A recurrent network that runs across the tensors of a model, from its inputs to its outputs."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.recurrent import LSTMCell
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State


class AcrossLSTM(NetworkRule):
    r"""An LSTM cell that steps from tensor to tensor, by depth, then the network of each entry.

    In each step the cell sees the mean inputs of a bundle's entries; what it gives out goes to a
    feed-forward network of each of those entries, beside the entry's own inputs. It starts anew in
    each step of training. The cell is torch's:

    .. math::
        i, f, g, o = W x + U h + b, \quad
        c \leftarrow \sigma(f)\, c + \sigma(i) \tanh(g), \quad
        h \leftarrow \sigma(o) \tanh(c)

    The authors' code steps through the tensors in the order in which the model lists them. Here
    those of equal depth, such as the weight and bias of a layer, step side by side from the same
    state, and the mean of their states is passed on, so that their order does not matter.

    Args:
        hidden: size of the cell's state, and number of units of each hidden layer at an entry.
        head_layers: number of hidden layers at each entry.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if a size is less than 1.

    Source: the baseline `LSTM` of Kofinas et al., ICLR 2024.
    """

    def __init__(self, hidden: int = 32, head_layers: int = 1, **options: Any) -> None:
        super().__init__(**options)
        check_sizes("AcrossLSTM", hidden=hidden, head_layers=head_layers)
        self.hidden, self.head_layers = hidden, head_layers
        sizes = [self.entry_inputs + hidden, *[hidden] * head_layers, self.recipe.outputs]
        self.cell = LSTMCell(self.entry_inputs, hidden, self.generator)
        self.head = FeedForward(sizes, self.generator, self.recipe.zero_outputs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"hidden": self.hidden, "head_layers": self.head_layers, **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the cell across the bundles, then the network of each entry."""
        inputs = graph_inputs.entry_features()
        means = torch.stack([entry.mean((0, 1, 2, 3)) for entry in inputs])
        states = self.across(means, [bundle.layout.depth for bundle in graph_inputs.bundles])
        outputs = [
            self.head(torch.cat([entry, state.expand(*entry.shape[:-1], -1)], -1))
            for entry, state in zip(inputs, states, strict=True)
        ]
        return outputs, {}

    def across(self, x: Tensor, depths: Sequence[float]) -> Tensor:
        """Run the cell.

        Args:
            x: what it sees of each bundle, `(bundles, entry_inputs)`.
            depths: of the bundles; they may come in any order.

        Returns:
            What it gives out at each bundle, `(bundles, hidden)`.
        """
        cell = hidden = x.new_zeros(1, self.hidden)
        order = sorted(range(len(depths)), key=depths.__getitem__)
        states: dict[int, Tensor] = {}
        for _, numbers in groupby(order, key=depths.__getitem__):
            together = list(numbers)
            outputs, cells = self.cell(x[together], hidden, cell)
            states |= zip(together, outputs, strict=True)
            cell, hidden = cells.mean(0, keepdim=True), outputs.mean(0, keepdim=True)
        return torch.stack([states[number] for number in range(len(depths))])
