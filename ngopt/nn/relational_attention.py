"""Attention of nodes to the nodes that they share an edge with, changed by the edge."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine


class Relation(NamedTuple):
    """Edges of one bundle in one direction, as a dense array.

    Args:
        receivers: numbers of the nodes that attend, `(group, receivers)`.
        senders: numbers of the nodes that they attend to, `(group, senders)`.
        edges: what is known of each pair, `(group, receivers, senders, edge_width)`.
    """

    receivers: Tensor
    senders: Tensor
    edges: Tensor


class RelationalAttention(nn.Module):
    r"""Attention over real edges only, with queries, keys and values that hear of the edge.

    Node i attends to each node j that it shares an edge with, along each edge:

    .. math::
        q_{ij} = W_q x_i + U_q e_{ij}, \quad k_{ij} = W_k x_j + U_k e_{ij}, \quad
        v_{ij} = (W_v x_j) \odot (U_m e_{ij}) + U_v e_{ij}, \quad
        \alpha_{ij} = \mathrm{softmax}_j(q_{ij} \cdot k_{ij} / \sqrt{d})

    and to itself, without an edge: :math:`q_i = W_q x_i, k_i = W_k x_i, v_i = W_v x_i`. Here d is
    the size of one head; the authors' code divides by the root of the size of all heads together,
    and lets all pairs of nodes attend to each other.

    The softmax runs over all edges that a node has, in all relations, so it is put together from
    partial sums. No array is larger than `(edges, width)` of one relation, and scores.

    Args:
        width: size of a node's state, and of all heads together.
        edge_width: size of what is known of an edge.
        heads: number of heads; divides `width`.
        generator: draws the weights.

    Source: Diao and Loynd, "Relational attention: generalizing transformers for graph-structured
    tasks", ICLR 2023; values modulated as in Kofinas et al., ICLR 2024.
    """

    def __init__(self, width: int, edge_width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.node_score = Affine(width, 2 * width, generator)
        self.node_value = Affine(width, width, generator)
        self.edge_score = Affine(edge_width, 2 * width, generator, bias=False)
        self.edge_value = Affine(edge_width, 2 * width, generator)
        self.output = Affine(width, width, generator)

    def forward(self, x: Tensor, relations: Sequence[Relation]) -> Tensor:
        """Let each node attend.

        Args:
            x: states of the nodes, `(nodes, width)`.
            relations: their edges; a node may occur in many relations, or in none.

        Returns:
            `(nodes, width)`.
        """
        query, key = self.node_score(x).chunk(2, -1)
        value = self.node_value(x)
        own = self._score(query, key)
        scores = [self._scores(query, key, relation) for relation in relations]
        top = self._top(own, relations, scores)
        weight = torch.exp(own - top)
        total, pooled = weight, weight[..., None] * self._split(value)
        for relation, score in zip(relations, scores, strict=True):
            weight = torch.exp(score - top[relation.receivers][:, :, None])
            receivers = relation.receivers.flatten()
            sums = torch.einsum("grsh,grshd->grhd", weight, self._values(value, relation))
            total = total.index_add(0, receivers, weight.sum(2).flatten(0, 1))
            pooled = pooled.index_add(0, receivers, sums.flatten(0, 1))
        mixed: Tensor = self.output((pooled / total[..., None]).flatten(1))
        return mixed

    def _scores(self, query: Tensor, key: Tensor, relation: Relation) -> Tensor:
        """Score of each edge, `(group, receivers, senders, heads)`."""
        of_query, of_key = self.edge_score(relation.edges).chunk(2, -1)
        return self._score(
            query[relation.receivers][:, :, None] + of_query,
            key[relation.senders][:, None] + of_key,
        )

    def _values(self, value: Tensor, relation: Relation) -> Tensor:
        """Value of each edge, `(group, receivers, senders, heads, head size)`."""
        factor, shift = self.edge_value(relation.edges).chunk(2, -1)
        return self._split(value[relation.senders][:, None] * factor + shift)

    def _score(self, query: Tensor, key: Tensor) -> Tensor:
        products = self._split(query * key)
        return products.sum(-1) / math.sqrt(products.shape[-1])

    def _split(self, x: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., heads, head size)`."""
        return torch.unflatten(x, -1, (self.heads, -1))

    @staticmethod
    def _top(own: Tensor, relations: Sequence[Relation], scores: Sequence[Tensor]) -> Tensor:
        """Largest score that each node has, `(nodes, heads)`; a constant, as it cancels out."""
        top = own.detach()
        for relation, score in zip(relations, scores, strict=True):
            largest = score.detach().amax(2).flatten(0, 1)
            number = relation.receivers.flatten()[:, None].expand_as(largest)
            top = top.scatter_reduce(0, number, largest, "amax")
        return top
