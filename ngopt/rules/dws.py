"""Deep weight-space networks: equivariant linear layers from blocks, on any graph."""

from typing import Any

from torch import Tensor, nn

from ngopt.nn.relations import RelationLayer, RelationNetwork
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State


class DWS(NetworkRule):
    """A deep weight-space network, generalised from layers in a row to any traced graph.

    The paper has a block for each pair of layers, from weights to weights, weights to biases and
    so on, and averages what the blocks say; inputs and outputs of the model are not permuted. Its
    maps are those of :class:`~ngopt.rules.nfn.NFN` with `variant="hnp"`: both papers find all that
    are equivariant. So once weights are shared by relation there is one layer,
    :class:`~ngopt.nn.relations.RelationLayer`, and what is left of the difference is
    this: at a neuron each *bundle* counts alike, as blocks do here, and not each edge; the
    activation is ReLU; and it is deeper. The mean over the blocks is a sum here, as their number is
    the same for all graphs. Features are kept below an RMS of 1 after each layer, as in `NFN`.

    Args:
        width: number of features of a pair of neurons.
        layers: number of layers.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an option makes no sense.

    Source: Navon et al., "Equivariant Architectures for Learning in Deep Weight Spaces", ICML 2023.
    """

    def __init__(self, width: int = 32, layers: int = 4, **options: Any) -> None:
        super().__init__(**options)
        check_sizes("DWS", width=width, layers=layers)
        self.width, self.layers = width, layers
        self.net = RelationNetwork(
            self.entry_inputs,
            width,
            [
                RelationLayer(width, width, self.generator, by_bundle=True, pinned=True)
                for _ in range(layers)
            ],
            self.recipe.outputs,
            self.generator,
            activation=nn.functional.relu,
            zero=self.recipe.zero_outputs,
        )

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {"width": self.width, "layers": self.layers, **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the network on all bundles."""
        return self.net(graph_inputs.connectivity, graph_inputs.entry_features()), {}
