"""Linear maps between the bundles of any graph that commute with permutations of its neurons."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine
from ngopt.nn.connectivity import Connectivity
from ngopt.nn.feed_forward import FeedForward

FREQUENCIES = 4
INDEX = 1 + 2 * FREQUENCIES
NODE_POOLS = 3
"""Weights that enter a node, biases that enter it, weights that leave it."""

WHOLE_POOLS = 2
"""All weights, all biases."""


def pinned_indices(connectivity: Connectivity) -> Tensor:
    """Tell the neurons that are never permuted from each other, whatever their number.

    Args:
        connectivity: gives the nodes.

    Returns:
        `(nodes, INDEX)`: for pinned neurons 1, then sines and cosines of the relative index
        (0 to 1) within their set; zeros for hidden neurons and for nodes that are no neurons.
    """
    index = connectivity.relative.unsqueeze(1)
    angles = index * math.pi * 2.0 ** torch.arange(FREQUENCIES).to(index)
    known = torch.cat([torch.ones_like(index), angles.sin(), angles.cos()], 1)
    return torch.where(index < 0, 0.0, known)


def soft_norm(x: Tensor) -> Tensor:
    """Bring feature vectors, along the last axis, to an RMS below 1; short ones hardly change."""
    return x * torch.rsqrt(1 + x.square().mean(-1, keepdim=True))


def node_pools(connectivity: Connectivity, pairs: Sequence[Tensor], by_bundle: bool) -> Tensor:
    """Average what enters and what leaves each node, over all bundles that do.

    Args:
        connectivity: gives the nodes at the ends of the edges.
        pairs: features of the pairs of neurons, arrays `(groups, out, in, features)`.
        by_bundle: whether each bundle counts alike, however many edges of it meet at the node;
            else each edge does.

    Returns:
        `(nodes, NODE_POOLS * features)`; zeros where there is no such edge.
    """
    weights_in, biases_in, weights_out = _NodeMean(), _NodeMean(), _NodeMean()
    for (ends, bias, _), x in zip(connectivity.edges, pairs, strict=True):
        _, outputs, inputs, _ = x.shape
        if bias:
            biases_in.add(ends.target, x.mean(2), 1)
        else:
            weights_in.add(ends.target, x.mean(2), 1 if by_bundle else inputs)
            weights_out.add(ends.source, x.mean(1), 1 if by_bundle else outputs)
    zeros = pairs[0].new_zeros(connectivity.nodes, pairs[0].shape[-1])
    return torch.cat([pool.result(zeros) for pool in (weights_in, biases_in, weights_out)], 1)


class _NodeMean:
    """Weighted mean, at each node, of what rows or columns of bundles say."""

    def __init__(self) -> None:
        self._indices: list[Tensor] = []
        self._totals: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(self, nodes: Tensor, means: Tensor, count: int) -> None:
        """Add means `(group, neurons, features)` of `count` things each."""
        self._indices.append(nodes.flatten())
        self._totals.append(means.flatten(0, 1) * count)
        self._counts.append(means.new_full((nodes.numel(), 1), count))

    def result(self, zeros: Tensor) -> Tensor:
        """Means at all nodes, of the shape of `zeros`, `(nodes, features)`; 0 of nothing."""
        if not self._indices:
            return zeros
        index = torch.cat(self._indices)
        totals = zeros.index_add(0, index, torch.cat(self._totals))
        counts = zeros[:, :1].index_add(0, index, torch.cat(self._counts))
        return totals / counts.clamp(min=1)


class Maps(nn.Module):
    """What bundles of one kind, weights or biases, make of their own features and of the pools.

    Args:
        inputs: number of features of a pair of neurons.
        outputs: number of new features.
        matrix: whether the bundles have input neurons, so that rows and columns mean something.
        generator: draws the weights.
    """

    def __init__(self, inputs: int, outputs: int, matrix: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.matrix = matrix
        pools = (NODE_POOLS + matrix) * inputs
        self.pairs = Affine(inputs, outputs, generator)
        self.rows = Affine(pools, outputs, generator, bias=False)
        if matrix:
            self.columns = Affine(pools, outputs, generator, bias=False)
        self.whole = Affine((1 + WHOLE_POOLS) * inputs, outputs, generator, bias=False)

    def forward(self, x: Tensor, target: Tensor, source: Tensor, whole: Tensor) -> Tensor:
        """Map features of pairs.

        Args:
            x: `(groups, out, in, inputs)`.
            target: pools at the nodes that the edges enter, `(groups, out, NODE_POOLS * inputs)`.
            source: pools at the nodes that they leave, `(groups, in, NODE_POOLS * inputs)`.
            whole: means over the bundle of each group and over all bundles of its network,
                `(groups, (1 + WHOLE_POOLS) * inputs)`.

        Returns:
            `(groups, out, in, outputs)`.
        """
        result: Tensor = self.pairs(x) + self.whole(whole)[:, None, None]
        rows = torch.cat([x.mean(2), target], -1) if self.matrix else target
        result = result + self.rows(rows).unsqueeze(2)
        if self.matrix:
            columns = torch.cat([x.mean(1), source], -1)
            result = result + self.columns(columns).unsqueeze(1)
        return result


class PinnedFactors(nn.Module):
    """Factors of the features of a pair, one for each end that is a pinned neuron; else 1.

    Args:
        features: number of features of a pair.
        generator: draws the weights.
    """

    def __init__(self, features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.affine = Affine(INDEX, features, generator, bias=False)

    def forward(
        self, connectivity: Connectivity, pairs: Sequence[Tensor], indices: Tensor
    ) -> list[Tensor]:
        """Multiply features of pairs, arrays `(groups, out, in, features)`."""
        factors = 1 + self.affine(indices)
        return [
            x * factors[ends.target].unsqueeze(2) * factors[ends.source].unsqueeze(1)
            for ends, x in zip(connectivity.ends, pairs, strict=True)
        ]


class RelationLayer(nn.Module):
    """A linear map of the features of all bundles, with one matrix for each relation.

    What a weight says of itself is: the pair of neurons, the means over its row, its column and its
    whole bundle. From others it gets the mean over the weights and over the biases that enter its
    output neuron (siblings, bias), that enter its input neuron (previous layer and its bias), that
    leave its output neuron (next layer) and its input neuron (siblings), and the mean of the means
    of all weights and of all biases. Biases have maps of their own, to what exists for them. Means
    over the edges at a neuron take in all bundles there, this one too.

    The number of layers appears nowhere, and the cost is that of reading each bundle a few times.

    Args:
        inputs: number of features of a pair of neurons.
        outputs: number of new features.
        generator: draws the weights.
        by_bundle: whether bundles count alike at a neuron; else edges do.
        pinned: whether maps also depend on the relative indices of pinned neurons: the layer is
            then multiplied by learned functions of them, before and after.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        *,
        by_bundle: bool = False,
        pinned: bool = False,
    ) -> None:
        super().__init__()
        self.by_bundle, self.pinned = by_bundle, pinned
        self.weights = Maps(inputs, outputs, True, generator)
        self.biases = Maps(inputs, outputs, False, generator)
        if pinned:
            self.before = PinnedFactors(inputs, generator)
            self.after = PinnedFactors(outputs, generator)

    def forward(
        self, connectivity: Connectivity, pairs: Sequence[Tensor], indices: Tensor
    ) -> list[Tensor]:
        """Map the features of all edges.

        Args:
            connectivity: of the edges.
            pairs: arrays `(groups, out, in, inputs)`.
            indices: what :func:`pinned_indices` returned.

        Returns:
            Arrays `(groups, out, in, outputs)`.
        """
        if self.pinned:
            pairs = self.before(connectivity, pairs, indices)
        nodes = node_pools(connectivity, pairs, self.by_bundle)
        whole = whole_pools(connectivity, pairs)
        result = []
        for (ends, bias, bundle), x in zip(connectivity.edges, pairs, strict=True):
            maps = self.biases if bias else self.weights
            result.append(maps(x, nodes[ends.target], nodes[ends.source], whole[bundle]))
        return self.after(connectivity, result, indices) if self.pinned else result


def whole_pools(connectivity: Connectivity, pairs: Sequence[Tensor]) -> Tensor:
    """Average each bundle, and the means of all weights and of all biases of its network.

    Args:
        connectivity: tells the bundles and networks apart.
        pairs: arrays `(groups, out, in, features)`.

    Returns:
        `(bundles, (1 + WHOLE_POOLS) * features)`; zeros where a network has no such bundle.
    """
    like, network = pairs[0], connectivity.bundle_network
    number = torch.cat([edges.bundle for edges in connectivity.edges])
    means = torch.cat([x.mean((1, 2)) for x in pairs])
    own = _mean_by(number, means, len(network))
    of_biases = [number[:0], *(edges.bundle for edges in connectivity.edges if edges.bias)]
    biases = like.new_zeros(len(network), 1).index_fill_(0, torch.cat(of_biases), 1)
    kinds = []
    for share in (1 - biases, biases):
        total = own.new_zeros(connectivity.networks, own.shape[1]).index_add(
            0, network, own * share
        )
        count = own.new_zeros(connectivity.networks, 1).index_add(0, network, share)
        kinds.append((total / count.clamp(min=1))[network])
    return torch.cat([own, *kinds], 1)


def _mean_by(number: Tensor, rows: Tensor, count: int) -> Tensor:
    """Mean of the rows `(rows, features)` that have each of the numbers below `count`."""
    total = rows.new_zeros(count, rows.shape[1]).index_add(0, number, rows)
    return total / rows.new_zeros(count, 1).index_add(0, number, rows.new_ones(len(rows), 1))


def through_layers(
    layers: Iterable[nn.Module],
    activation: Callable[[Tensor], Tensor],
    connectivity: Connectivity,
    pairs: list[Tensor],
    indices: Tensor,
) -> list[Tensor]:
    """Send features of pairs through layers, each followed by :func:`soft_norm` and an activation.

    Args:
        layers: :class:`RelationLayer` each.
        activation: after each layer.
        connectivity: of the edges.
        pairs: arrays `(groups, out, in, features)`.
        indices: what :func:`pinned_indices` returned.

    Returns:
        Arrays of the same shapes.
    """
    for layer in layers:
        pairs = [activation(soft_norm(x)) for x in layer(connectivity, pairs, indices)]
    return pairs


class RelationNetwork(nn.Module):
    """Layers of :class:`RelationLayer` between an embedding of pairs and a head for each entry.

    A pair of neurons starts from the mean of what its taps are embedded as. In the end each entry
    sees the features of its pair beside its own inputs.

    Args:
        inputs: number of inputs of an entry.
        width: number of features of a pair, and of hidden units of the head.
        layers: the layers between, each from `width` features to `width`.
        outputs: number of outputs of an entry.
        generator: draws the weights.
        activation: after each layer.
        zero: whether the outputs start at zero.
        io_embedding: whether pairs also start from the relative indices of pinned neurons.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: Sequence[RelationLayer],
        outputs: int,
        generator: torch.Generator,
        *,
        activation: Callable[[Tensor], Tensor],
        zero: bool,
        io_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.io_embedding = activation, io_embedding
        self.embed = Affine(inputs, width, generator)
        if io_embedding:
            self.target = Affine(INDEX, width, generator, bias=False)
            self.source = Affine(INDEX, width, generator, bias=False)
        self.layers = nn.ModuleList(layers)
        self.head = FeedForward([inputs + width, width, outputs], generator, zero)

    def forward(self, connectivity: Connectivity, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Compute the outputs of all entries.

        Args:
            connectivity: of the edges.
            inputs: what is known of each entry, arrays `(groups, out, in, tap, inputs)`.

        Returns:
            Arrays `(groups, out, in, tap, outputs)`.
        """
        indices = pinned_indices(connectivity)
        pairs = [nn.functional.silu(self.embed(x)).mean(3) for x in inputs]
        if self.io_embedding:
            target, source = self.target(indices), self.source(indices)
            pairs = [
                x + target[ends.target].unsqueeze(2) + source[ends.source].unsqueeze(1)
                for ends, x in zip(connectivity.ends, pairs, strict=True)
            ]
        pairs = through_layers(self.layers, self.activation, connectivity, pairs, indices)
        return [
            self.head(torch.cat([x, pair.unsqueeze(3).expand(*x.shape[:-1], -1)], -1))
            for x, pair in zip(inputs, pairs, strict=True)
        ]
