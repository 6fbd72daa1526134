"""The relational transformer of the paper of neural graphs."""

from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.positions import NODE_POSITIONS
from ngopt.nn.affine import Affine
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.relational_transformer import TransformerLayer
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.network_rule import NetworkRule, check_sizes
from ngopt.rules.rule import State


class NGT(NetworkRule):
    """Transformer over neurons, which attend to those that they share an edge with.

    Nodes start from their positional features; the pair of nodes at both ends of an edge starts
    from the mean over taps of embedded inputs of its entries. After the layers, a feed-forward
    network of each entry sees the entry's own inputs and the state of its pair. A bias is an edge
    from a node that stands for no neuron.

    The attention runs over real edges, both ways, and of each node to itself; the authors' runs
    over all pairs of nodes, which takes memory quadratic in their number.

    Args:
        width: size of a node's state, and number of units of each hidden layer at an entry.
        edge_width: size of a pair's state.
        layers: number of layers of the transformer.
        heads: number of heads of the attention; divides `width`.
        head_layers: number of hidden layers at each entry.
        options: `recipe`, `positions` and `seed`, as in
            :class:`~ngopt.rules.network_rule.NetworkRule`.

    Raises:
        RuleError: if a size is less than 1, or `heads` does not divide `width`.

    Source: `NG-T` of Kofinas et al., "Graph Neural Networks for Learning Equivariant
    Representations of Neural Networks", ICLR 2024.
    """

    def __init__(
        self,
        width: int = 32,
        edge_width: int = 16,
        layers: int = 2,
        heads: int = 4,
        head_layers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sizes = {
            "width": width,
            "edge_width": edge_width,
            "layers": layers,
            "heads": heads,
            "head_layers": head_layers,
        }
        check_sizes("NGT", **self.sizes)
        if width % heads:
            raise RuleError(
                f"NGT got width={width} and heads={heads}, but the heads share the width equally."
                "\n  Use a number of heads that divides the width."
            )
        start = [self.entry_inputs, edge_width, edge_width]
        head = [self.entry_inputs + edge_width, *[width] * head_layers, self.recipe.outputs]
        self.node_start = Affine(NODE_POSITIONS, width, self.generator)
        self.edge_start = FeedForward(start, self.generator)
        self.layers = nn.ModuleList(
            TransformerLayer(width, edge_width, heads, self.generator) for _ in range(layers)
        )
        self.head = FeedForward(head, self.generator, self.recipe.zero_outputs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {**self.sizes, **self.shared_config}

    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the transformer, then the network of each entry."""
        inputs = graph_inputs.entry_features()
        x = self.node_start(graph_inputs.positions)
        edges = [self.edge_start(entry).mean(3) for entry in inputs]
        for layer in self.layers:
            x, edges = layer(x, edges, graph_inputs.ends)
        return [self._outputs(*both) for both in zip(inputs, edges, strict=True)], {}

    def _outputs(self, entry: Tensor, edge: Tensor) -> Tensor:
        of_pair = edge[:, :, :, None].expand(*entry.shape[:-1], -1)
        outputs: Tensor = self.head(torch.cat([entry, of_pair], -1))
        return outputs
