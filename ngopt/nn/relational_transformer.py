"""The layer of the relational transformer of the paper of neural graphs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ngopt.graph.incidence import Incidence
from ngopt.nn.affine import Affine, LayerNorm, PairAffine
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.relational_attention import Relation, RelationalAttention


class TransformerLayer(nn.Module):
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
