"""Deep sets: each tensor as a set of entries, the baseline for rules that use rows and columns."""

from typing import Any

from torch import Tensor, nn

from ngopt.nn.affine import Affine
from ngopt.nn.sets import SetLayer
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State


class DeepSets(NetworkRule):
    """Deep sets: layers that see an entry and the mean over all entries of its bundle.

    The network cannot tell rows from columns, and tensors exchange nothing.

    Args:
        width: number of features of an entry in each layer.
        layers: number of layers, before an affine map to the outputs.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an option makes no sense.

    Source: Zaheer et al., "Deep Sets", NeurIPS 2017; as a learned optimizer (32 units, 3 layers):
    Zhou et al., "Universal Neural Functionals", NeurIPS 2024.
    """

    def __init__(self, width: int = 32, layers: int = 3, **options: Any) -> None:
        super().__init__(**options)
        check_sizes("DeepSets", width=width, layers=layers)
        self.width = width
        self.layers = nn.ModuleList(
            SetLayer(width if number else self.entry_inputs, width, self.generator)
            for number in range(layers)
        )
        last = None if self.recipe.zero_outputs else self.generator
        self.last = Affine(width, self.recipe.outputs, last)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"width": self.width, "layers": len(self.layers), **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the network on each bundle."""
        result = []
        for x in graph_inputs.entry_features():
            for layer in self.layers:
                x = nn.functional.relu(layer(x))
            result.append(self.last(x))
        return result, {}
