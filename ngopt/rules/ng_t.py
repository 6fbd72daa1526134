"""The relational transformer of the paper of neural graphs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.positions import NODE_POSITIONS
from ngopt.graph.incidence import Incidence
from ngopt.nn.affine import Affine, PairAffine
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.layer_norm import LayerNorm
from ngopt.nn.relational_attention import Relation, RelationalAttention
from ngopt.rules.network_rule import NetworkRule
from ngopt.rules.rule import State
from ngopt.rules.scene import Scene
from ngopt.rules.sizes import check_sizes


class Layer(nn.Module):
    r"""One layer of the transformer: nodes attend along their edges, then edges hear their nodes.

    .. math::
        x_i \leftarrow \mathrm{LN}(x_i + \mathrm{attention}_i), \quad
        x_i \leftarrow \mathrm{LN}(x_i + \mathrm{MLP}(x_i)), \\
        e_{ij} \leftarrow \mathrm{LN}(e_{ij} + \mathrm{MLP}(e_{ij}, x_i, x_j)), \quad
        e_{ij} \leftarrow \mathrm{LN}(e_{ij} + \mathrm{MLP}(e_{ij}))

    The nodes enter the first map of an edge's MLP as sums. The authors' code keeps two states of
    each pair of nodes, one for each direction. Here a pair has one, :math:`e_{ij}`, where the edge
    leads from j to i, and the other is a linear map of it; so it is not an input of the MLP.

    Args:
        width: size of a node's state.
        edge_width: size of an edge's state.
        heads: number of heads of the attention.
        generator: draws the weights.
    """

    def __init__(self, width: int, edge_width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.reverse = Affine(edge_width, edge_width, generator)
        self.attention = RelationalAttention(width, edge_width, heads, generator)
        self.node_mlp = FeedForward([width, 2 * width, width], generator)
        self.edge_hidden = PairAffine(edge_width, width, 2 * edge_width, generator)
        self.edge_output = Affine(2 * edge_width, edge_width, generator)
        self.edge_mlp = FeedForward([edge_width, 2 * edge_width, edge_width], generator)
        self.node_norms = nn.ModuleList(LayerNorm(width) for _ in range(2))
        self.edge_norms = nn.ModuleList(LayerNorm(edge_width) for _ in range(2))

    def forward(
        self, x: Tensor, edges: Sequence[Tensor], ends: Sequence[Incidence]
    ) -> tuple[Tensor, list[Tensor]]:
        """Update nodes and edges.

        Args:
            x: states of the nodes, `(nodes, width)`.
            edges: states of the edges of each bundle, `(group, out, in, edge_width)`.
            ends: numbers of the nodes at both ends of each bundle.

        Returns:
            The new states.
        """
        first, second = self.node_norms
        x = first(x + self.attention(x, self._relations(edges, ends)))
        x = second(x + self.node_mlp(x))
        return x, [self._edge(e, x, end) for e, end in zip(edges, ends, strict=True)]

    def _relations(self, edges: Sequence[Tensor], ends: Sequence[Incidence]) -> list[Relation]:
        """The edges of each bundle, and the same reversed."""
        relations = []
        for e, end in zip(edges, ends, strict=True):
            relations.append(Relation(end.target, end.source, e))
            relations.append(Relation(end.source, end.target, self.reverse(e).transpose(1, 2)))
        return relations

    def _edge(self, e: Tensor, x: Tensor, end: Incidence) -> Tensor:
        first, second = self.edge_norms
        e = first(e + self.edge_output(nn.functional.silu(self.edge_hidden(e, x, end))))
        result: Tensor = second(e + self.edge_mlp(e))
        return result


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
            Layer(width, edge_width, heads, self.generator) for _ in range(layers)
        )
        self.head = FeedForward(head, self.generator, self.recipe.zero_outputs)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {**self.sizes, **self.shared_config}

    def network(self, scene: Scene) -> tuple[list[Tensor], State]:
        """Run the transformer, then the network of each entry."""
        inputs = scene.inputs()
        x = self.node_start(scene.positions)
        edges = [self.edge_start(entry).mean(3) for entry in inputs]
        for layer in self.layers:
            x, edges = layer(x, edges, scene.ends)
        return [self._outputs(*both) for both in zip(inputs, edges, strict=True)], {}

    def _outputs(self, entry: Tensor, edge: Tensor) -> Tensor:
        of_pair = edge[:, :, :, None].expand(*entry.shape[:-1], -1)
        outputs: Tensor = self.head(torch.cat([entry, of_pair], -1))
        return outputs
