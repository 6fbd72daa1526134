"""A feed-forward network of each entry alone, the baseline for graph networks."""

from typing import Any

from torch import Tensor

from ngopt.nn.feed_forward import FeedForward
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule
from ngopt.rules.rule import State


class FF(NetworkRule):
    """A feed-forward network applied to each entry by itself.

    Args:
        hidden: number of units of each hidden layer.
        layers: number of hidden layers.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Source: the baseline `FF` of Kofinas et al., ICLR 2024 (64 units, 2 layers, there).
    """

    def __init__(
        self,
        hidden: int = 32,
        layers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.hidden, self.layers = hidden, layers
        sizes = [self.entry_inputs, *[hidden] * layers, self.recipe.outputs]
        self.net = FeedForward(sizes, self.generator, self.recipe.zero_outputs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"hidden": self.hidden, "layers": self.layers, **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the network on each entry."""
        return [self.net(x) for x in graph_inputs.entry_features()], {}
