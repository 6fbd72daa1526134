"""A transformer that reads a network neuron by neuron: one token for each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention, silu

from ngopt.encoders.encoder import Architecture, Encoder, Example, check_sizes, check_some
from ngopt.encoders.networks import Networks, Stack
from ngopt.errors import EncoderError
from ngopt.graph.incidence import Incidence, incidences
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, nodes_of
from ngopt.nn.affine import Affine, LayerNorm
from ngopt.nn.feed_forward import FeedForward


class NeuronTransformer(Encoder):
    """A transformer over the neurons of networks of one architecture.

    A token says which set of neurons its neuron belongs to (and its place there, if that is fixed)
    and sums up the weights that enter and leave it: those from and to neurons with fixed places one
    by one, those from and to hidden neurons as a set, and that to itself. Attention from neuron to
    neuron also gets the weights between the two, in both directions, so that nothing is lost and
    yet no order of the hidden neurons matters. Taps, such as the gates of an LSTM, are features of
    a weight.

    Args:
        example: a graph, or networks of this architecture.
        width: size of the encoding.
        token: size of a token; a multiple of `heads`.
        layers: how many.
        heads: of attention.
        dropout: share of the updates of tokens that is set to 0 in training.
        edges: whether attention uses the weights between two neurons.
        seed: of the first weights.

    Raises:
        EncoderError: if an option makes no sense.

    Source: the parameter transformer of Herrmann et al., "Learning useful representations of
    recurrent neural network weight matrices", ICML 2024, which reads a neuron's weights in an order
    and has no edges; attention with edges: Diao and Loynd, "Relational attention", ICLR 2023.
    """

    def __init__(
        self,
        example: Example,
        width: int = 16,
        token: int = 32,
        layers: int = 3,
        heads: int = 4,
        dropout: float = 0.0,
        edges: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        check_sizes("NeuronTransformer", token=token, layers=layers, heads=heads)
        if token % heads or not 0 <= dropout < 1:
            raise EncoderError(
                f"cannot build a NeuronTransformer with token={token}, heads={heads}, "
                f"dropout={dropout}.\n  Use a token that is a multiple of heads, and "
                "0 <= dropout < 1."
            )
        self.architecture = Architecture(example)
        self.graph, generator = self.architecture.graph, self.generator
        self.token, self.layers, self.heads = token, layers, heads
        self.dropout, self.edges = dropout, edges
        self.nodes = nodes_of(self.graph)
        self.tokens = Tokens(self.graph, self.nodes, token, generator)
        count = heads * layers if edges else 0
        self.scores = nn.ModuleList(
            Affine(bundle.shape[3], 2 * count, generator) for bundle in self.graph.bundles if edges
        )
        self.blocks = nn.ModuleList(Block(token, heads, dropout, generator) for _ in range(layers))
        self.norm = LayerNorm(token)
        sets = sum(bool(item.spaces) for item in self.nodes.sets)
        self.read_out = FeedForward([sets * token, token, width], generator)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        names = ("width", "token", "layers", "heads", "dropout", "edges", "seed")
        return {"example": self.architecture.plain, **{name: getattr(self, name) for name in names}}

    def encode(self, networks: Networks) -> Tensor:
        """Read networks; `(networks, width)`.

        Raises:
            EncoderError: if they are of another architecture than the example.
        """
        check_some(networks)
        self.architecture.check(networks, "NeuronTransformer")
        return networks.in_order([self._encode(stack) for stack in networks])

    def _encode(self, stack: Stack) -> Tensor:
        arrays = [
            torch.vmap(bundle.view)(stack.parameters[bundle.parameter])
            for bundle in self.graph.bundles
        ]
        ends = incidences(self.graph, self.nodes, arrays[0].device)
        x = self.tokens(arrays, ends)
        scores = self._edge_scores(arrays, ends, x)
        for number, block in enumerate(self.blocks):
            x = block(x, scores[number] if self.edges else None)
        x = self.norm(x)
        means = [
            x[:, item.start : item.start + item.size].mean(1)
            for item in self.nodes.sets
            if item.spaces
        ]
        encoding: Tensor = self.read_out(torch.cat(means, -1))
        return encoding

    def _edge_scores(
        self, arrays: list[Tensor], ends: list[Incidence], x: Tensor
    ) -> tuple[Tensor, ...]:
        """What weights add to the scores of attention, `(networks, heads, nodes, nodes)` each."""
        if not self.edges:
            return ()
        count = self.nodes.count
        places, values = [], []
        for affine, array, end in zip(self.scores, arrays, ends, strict=True):
            target, source = end.target.unsqueeze(2), end.source.unsqueeze(1)
            places += [target * count + source, source * count + target]
            values += affine(array).flatten(1, 3).chunk(2, -1)
        zeros = x.new_zeros(len(x), count * count, self.layers * self.heads)
        flat = zeros.index_add(
            1,
            torch.cat([p.flatten() for p in places]),
            torch.cat(values, 1),
        )
        scores = flat.view(len(x), count, count, self.layers, self.heads)
        return scores.permute(3, 0, 4, 1, 2).unbind(0)


class Tokens(nn.Module):
    """First tokens of all nodes: what set they are of, and the weights that enter and leave them.

    Args:
        graph: of the networks.
        nodes: its nodes.
        size: of a token.
        generator: draws the weights.
    """

    def __init__(
        self, graph: NeuralGraph, nodes: Nodes, size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.sizes = [item.size for item in nodes.sets]
        self.places = nn.ParameterList(
            torch.randn(item.size if item.pinned else 1, size, generator=generator)
            for item in nodes.sets
        )
        self.rows, self.columns, self.loops = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        for number, bundle in enumerate(graph.bundles):
            target, source = nodes.targets[number], nodes.sources[number]
            _, outputs, inputs, taps = bundle.shape
            for ways, others, there in (
                (self.rows, inputs, nodes.sets[source]),
                (self.columns, outputs, nodes.sets[target]),
            ):
                fixed = there.pinned
                ways.append(
                    OneByOne(others * taps, size, generator)
                    if fixed
                    else AsSet(taps, size, generator)
                )
            if target == source and bundle.shape[0] == 1:
                self.loops[str(number)] = Affine(taps, size, generator, bias=False)

    def forward(self, arrays: Sequence[Tensor], ends: Sequence[Incidence]) -> Tensor:
        """Make tokens, `(networks, nodes, size)`.

        Args:
            arrays: of each bundle, `(networks, group, out, in, tap)`.
            ends: numbers of the nodes at both ends of each bundle.
        """
        places = [
            place.expand(size, -1) for place, size in zip(self.places, self.sizes, strict=True)
        ]
        x = torch.cat(places).to(arrays[0]).expand(len(arrays[0]), -1, -1)
        for number, (array, end) in enumerate(zip(arrays, ends, strict=True)):
            x = x.index_add(1, end.target.flatten(), self.rows[number](array).flatten(1, 2))
            column = self.columns[number](array.transpose(2, 3))
            x = x.index_add(1, end.source.flatten(), column.flatten(1, 2))
            if str(number) in self.loops:
                own = self.loops[str(number)](_diagonal(array, end))
                x = x.index_add(1, end.source.flatten(), own)
        return x


class OneByOne(nn.Module):
    """Sums up the weights of each neuron, from or to others that have fixed places."""

    def __init__(self, weights: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.affine = Affine(weights, size, generator, bias=False)

    def forward(self, array: Tensor) -> Tensor:
        """Map `(..., neurons, others, taps)` to `(..., neurons, size)`."""
        result: Tensor = self.affine(array.flatten(-2))
        return result


class AsSet(nn.Module):
    """Sums up the weights of each neuron, from or to others whose order means nothing."""

    def __init__(self, taps: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.each = Affine(taps, size, generator)
        self.whole = Affine(size, size, generator)

    def forward(self, array: Tensor) -> Tensor:
        """Map `(..., neurons, others, taps)` to `(..., neurons, size)`."""
        result: Tensor = self.whole(silu(self.each(array)).mean(-2))
        return result


class Block(nn.Module):
    """Attention between all tokens of a network, then a map of each token.

    Args:
        size: of a token.
        heads: of attention.
        dropout: share of the updates that is set to 0 in training.
        generator: draws the weights.
    """

    def __init__(self, size: int, heads: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = LayerNorm(size), LayerNorm(size)
        self.ask = Affine(size, 3 * size, generator)
        self.answer = Affine(size, size, generator)
        self.each = FeedForward([size, 2 * size, size], generator)

    def forward(self, x: Tensor, scores: Tensor | None) -> Tensor:
        """Update tokens `(networks, nodes, size)`.

        Args:
            x: tokens.
            scores: added to the scores of attention, `(networks, heads, nodes, nodes)`.
        """
        parts = self.ask(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        responses = scaled_dot_product_attention(query, key, value, attn_mask=scores)
        x = x + self._dropped(self.answer(responses.transpose(1, 2).flatten(2)))
        return x + self._dropped(self.each(self.between(x)))

    def _dropped(self, update: Tensor) -> Tensor:
        return dropout(update, self.dropout, self.training)


def _diagonal(array: Tensor, end: Incidence) -> Tensor:
    """Weights of the neurons to themselves, `(networks, neurons, taps)`, by their place as source.

    Rows and columns of a bundle may have the neurons in different orders.
    """
    same = (end.target[0].unsqueeze(1) == end.source[0].unsqueeze(0)).to(array)
    return torch.einsum("noit,oi->nit", array[:, 0], same)
