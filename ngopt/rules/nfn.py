"""Neural functional networks: layers that are linear and equivariant, on any graph."""

from typing import Any, Literal, get_args

from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.nn.relations import RelationLayer, RelationNetwork
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State

Variant = Literal["np", "hnp"]


class NFN(NetworkRule):
    """A neural functional network, generalised from layers in a row to any traced graph.

    The papers' layers have a matrix for each pair of layers, which ties them to one depth. Here
    there is one for each *relation* between bundles, so theta fits any graph; see
    :class:`~ngopt.nn.relations.RelationLayer`. Kernel taps, which the papers take for
    features, are averaged for the layers, and told apart by the network of each entry before and
    after.

    `"np"` (neuron permutation) treats the inputs and outputs of the model as it does hidden
    neurons; only the embedding of their relative indices, `i / (n - 1)`, tells them apart. `"hnp"`
    (hidden neuron permutation) does not share its weights over inputs and outputs: in the paper
    there is a matrix for each index. Theta must not grow with their number, so here each layer is
    multiplied, before and after, by learned functions of the relative index of each pinned neuron:
    a matrix for each pair of indices still, of the form `diag(a(i)) M diag(b(j))`, smooth in both.
    For hidden neurons the functions are 1. In a graph of lone tensors all neurons are pinned.

    Features are kept below an RMS of 1 after each layer, which the papers do not do.

    Args:
        variant: `"np"` or `"hnp"`.
        width: number of features of a pair of neurons.
        layers: number of layers.
        io_embedding: whether pairs start from sines and cosines of the relative indices of pinned
            neurons. The papers have them for `"np"` only; `"hnp"` can tell them apart anyway.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if an option makes no sense.

    Source: Zhou et al., "Permutation Equivariant Neural Functionals", NeurIPS 2023.
    """

    def __init__(
        self,
        variant: Variant = "np",
        width: int = 32,
        layers: int = 2,
        *,
        io_embedding: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_sizes("NFN", width=width, layers=layers)
        if variant not in get_args(Variant):
            raise RuleError(
                f"there is no variant {variant!r} of NFN.\n"
                f"  Use variant= one of: {', '.join(get_args(Variant))}."
            )
        self.variant, self.width, self.layers = variant, width, layers
        self.io_embedding = io_embedding
        self.net = RelationNetwork(
            self.entry_inputs,
            width,
            [
                RelationLayer(width, width, self.generator, pinned=variant == "hnp")
                for _ in range(layers)
            ],
            self.recipe.outputs,
            self.generator,
            activation=nn.functional.silu,
            zero=self.recipe.zero_outputs,
            io_embedding=io_embedding,
        )

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            "variant": self.variant,
            "width": self.width,
            "layers": self.layers,
            "io_embedding": self.io_embedding,
            **self.shared_config,
        }

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the network on all bundles."""
        return self.net(graph_inputs.connectivity, graph_inputs.entry_features()), {}
