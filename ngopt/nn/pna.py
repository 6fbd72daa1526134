"""One layer of message passing: edges modulate messages, nodes aggregate them in several ways."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ngopt.graph.incidence import Incidence
from ngopt.nn.affine import Affine, LayerNorm, PairAffine
from ngopt.nn.chunks import Apply, at_once

AGGREGATORS = ("mean", "min", "max", "std")

DELTA = 4.0
"""Unit of log degree, in place of its mean over some data set: about that of 54 neighbours."""

VARIANCE_EPS = 1e-5
"""Variance that counts as none, of messages, whose size is about 1."""


class Stream(NamedTuple):
    """The messages along the edges of one bundle, in one direction.

    Args:
        modulation: maps an edge to factors and offsets, `(edge_width, 2 * width)`.
        edges: states of the edges, `(group, into, out of, edge_width)`.
        into: numbers of the nodes that the messages enter, `(group, into)`.
        out_of: numbers of the nodes that they come from, `(group, out of)`.
    """

    modulation: Affine
    edges: Tensor
    into: Tensor
    out_of: Tensor


class Messages(NamedTuple):
    """All messages of a layer, before they are computed.

    The message from node j to node i is `scale * (near[i] + far[j]) + shift`, with `scale, shift`
    an affine map of the edge between them.

    Args:
        streams: the edges that they pass.
        near: what the entered node contributes, `(nodes, width)`.
        far: what the other node contributes, `(nodes, width)`.
        degree: number of messages that enter each node, `(nodes,)`.
    """

    streams: list[Stream]
    near: Tensor
    far: Tensor
    degree: Tensor


Aggregate: TypeAlias = Callable[[Messages, Sequence[str]], Tensor]
"""Computes messages and, for each of some aggregators, what enters each node, side by side:
`(nodes, aggregators * width)`; zeros where nothing enters."""


class PNALayer(nn.Module):
    r"""Principal neighbourhood aggregation with messages modulated by the edges.

    .. math::
        s_{ij}, t_{ij} &= \mathrm{Affine}(e_{ij}) \\
        m_{ij} &= s_{ij} \odot \mathrm{Affine}([x_i, x_j]) + t_{ij} \\
        a_i &= [\mathrm{agg}_j\, m_{ij}] \otimes [1, \log(d_i + 1) / \delta] \\
        x_i' &= \mathrm{SiLU}(\mathrm{LN}(\mathrm{Affine}([x_i, a_i]))) \\
        e_{ij}' &= \mathrm{LN}(e_{ij} + W\, \mathrm{SiLU}(\mathrm{Affine}([e_{ij}, x_i', x_j'])))

    over all edges that enter node i, of all bundles, and, with an affine map of their own to
    modulate them, over those that leave it. LN normalises the features of each node or edge by
    itself. Unlike in the paper, edges are updated with a residual and LN, which keep deep networks
    of large weights accurate in single precision; :math:`\delta` is a constant, so that no data set
    is needed to build the layer; and one affine map follows the aggregation, not two in a row.

    Args:
        width: size of the states of nodes and, unless told otherwise, of edges.
        aggregators: of :data:`AGGREGATORS`.
        scalers: whether to aggregate once more, scaled by log degree.
        reverse: whether messages pass against the edges, too.
        edge_updates: whether edges change.
        generator: draws the weights.
        edge_width: size of the states of edges.

    Source: Kofinas et al., ICLR 2024; Corso et al., "Principal Neighbourhood Aggregation for Graph
    Nets", NeurIPS 2020.
    """

    def __init__(
        self,
        width: int,
        aggregators: Sequence[str],
        scalers: bool,
        reverse: bool,
        edge_updates: bool,
        generator: torch.Generator,
        edge_width: int | None = None,
    ) -> None:
        super().__init__()
        edge = width if edge_width is None else edge_width
        self.aggregators, self.scalers = tuple(aggregators), scalers
        self.near = Affine(width, width, generator)
        self.far = Affine(width, width, generator, bias=False)
        self.along = Affine(edge, 2 * width, generator)
        self.against = Affine(edge, 2 * width, generator) if reverse else None
        parts = 1 + len(self.aggregators) * (2 if scalers else 1)
        self.mix = Affine(parts * width, width, generator)
        self.norm = LayerNorm(width)
        self.edge_updates = edge_updates
        if edge_updates:
            self.edge_hidden = PairAffine(edge, width, edge, generator)
            self.edge_out = Affine(edge, edge, generator)
            self.edge_norm = LayerNorm(edge)

    def forward(
        self,
        nodes: Tensor,
        edges: Sequence[Tensor],
        ends: Sequence[Incidence],
        aggregate: Aggregate,
        apply: Apply = at_once,
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute the next states of nodes and edges.

        Args:
            nodes: states, `(nodes, width)`.
            edges: states of each bundle's pairs of neurons, `(group, out, in, edge_width)`.
            ends: numbers of the nodes at both ends of each bundle.
            aggregate: what computes the messages.
            apply: applies a function to the edges of a bundle.

        Returns:
            States of the same shapes.
        """
        streams = []
        for states, (target, source) in zip(edges, ends, strict=True):
            streams.append(Stream(self.along, states, target, source))
            if self.against is not None:
                streams.append(Stream(self.against, states.transpose(1, 2), source, target))
        degree = _degree(streams, nodes)
        aggregated = aggregate(
            Messages(streams, self.near(nodes), self.far(nodes), degree), self.aggregators
        )
        parts = [nodes, aggregated]
        if self.scalers:
            parts.append(aggregated * (torch.log1p(degree) / DELTA).unsqueeze(1))
        nodes = silu(self.norm(self.mix(torch.cat(parts, 1))))
        return nodes, [self._edge(e, nodes, end, apply) for e, end in zip(edges, ends, strict=True)]

    def _edge(self, edges: Tensor, nodes: Tensor, ends: Incidence, apply: Apply) -> Tensor:
        if not self.edge_updates:
            return edges
        (result,) = apply(self._next_edge, [edges, *self.edge_hidden.of_nodes(nodes, ends)])
        return result

    def _next_edge(self, edges: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor]:
        change = self.edge_out(silu(self.edge_hidden.of_pairs(edges, target, source)))
        return (self.edge_norm(edges + change),)


def deviation(variance: Tensor) -> Tensor:
    """Return the standard deviation (any shape): exactly 0 for 0, and differentiable there."""
    return variance * torch.rsqrt(variance + VARIANCE_EPS)


def _degree(streams: Sequence[Stream], nodes: Tensor) -> Tensor:
    index = torch.cat([stream.into.flatten() for stream in streams])
    counts = torch.cat([nodes.new_full((s.into.numel(),), s.out_of.shape[1]) for s in streams])
    return nodes.new_zeros(len(nodes)).index_add(0, index, counts)
