"""Statistics of whole tensors: the baseline that networks on the graph have to beat."""

from typing import Any

import torch
from torch import Tensor

from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.sets import STATISTICS, set_statistics
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State


class StatNN(NetworkRule):
    """Network of the statistics of a bundle, then of each entry with what that says.

    Tensors exchange nothing, and neurons of a bundle are not distinguished.

    Args:
        width: number of units of each hidden layer, and of features of a bundle.
        layers: number of hidden layers of the network of each bundle.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an option makes no sense.

    Source: Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020, for the
    seven statistics.
    """

    def __init__(self, width: int = 32, layers: int = 2, **options: Any) -> None:
        super().__init__(**options)
        check_sizes("StatNN", width=width, layers=layers)
        self.width, self.layers = width, layers
        known = STATISTICS * self.recipe.channels + self.recipe.context
        self.whole = FeedForward([known, *[width] * layers, width], self.generator)
        sizes = [self.entry_inputs + width, width, self.recipe.outputs]
        self.entry = FeedForward(sizes, self.generator, self.recipe.zero_outputs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"width": self.width, "layers": self.layers, **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the networks on each bundle and its entries."""
        result = []
        inputs = graph_inputs.entry_features()
        for x, features, context in zip(
            inputs, graph_inputs.features, graph_inputs.context, strict=True
        ):
            statistics = set_statistics(features.flatten(0, -2))
            whole = torch.tanh(self.whole(torch.cat([statistics, context])))
            known = torch.cat([x, whole.expand(*x.shape[:-1], -1)], -1)
            result.append(self.entry(known))
        return result, {}
