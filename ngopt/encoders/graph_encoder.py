"""Encoders on the graph: features of entries and nodes, a body, and read-outs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ngopt.encoders.batch import Batch
from ngopt.encoders.batch_graph import INPUT, OUTPUT, ROLES, count_role
from ngopt.encoders.encoder import (
    Architecture,
    Encoder,
    Example,
    check_choice,
    check_sizes,
    check_some,
)
from ngopt.encoders.inputs import EntryFeatures, EntryMap, NodeMap, Scale
from ngopt.encoders.networks import Networks
from ngopt.encoders.probes import Probes
from ngopt.errors import EncoderError
from ngopt.features.positions import POSITIONS, Positions
from ngopt.graph.nodes import nodes_of
from ngopt.nn.affine import Affine, LayerNorm, PairAffine
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.read_out import AttentionPool, Concatenation, Pool

SCALES = ("kind", "tensor")
EMBEDDINGS = ("index", "learned", "none")
READ_OUTS = ("pool", "attention", "outputs")
EDIT_SCALE = 0.01
"""By what outputs for entries are multiplied at first, as a change of trained parameters."""


class GraphEncoder(Encoder):
    """An encoder that reads any graph. Its answers do not depend on the order of hidden neurons.

    Args:
        example: a graph or networks; needed where options tie the encoder to a number of inputs and
            outputs of the networks or to an architecture.
        width: size of the states of nodes, of the encoding, and of hidden layers.
        edge_width: size of the states of edges.
        scale: entries are brought to mean 0 and variance 1, once :meth:`fit_scale` has measured
            them, for each `"kind"` of layer, or for each `"tensor"` of the one architecture that
            the example has.
        fourier: number of random frequencies, sines and cosines of which stand for the value of an
            entry; 0 for the value itself.
        fourier_spread: standard deviation of the frequencies.
        positions: positional features to show; see :data:`ngopt.features.positions.POSITIONS`.
        embedding: how inputs and outputs of a network are told apart: by sines and cosines of their
            relative `"index"`, by `"learned"` vectors, one for each of those that the example has,
            or not at all, `"none"`. Hidden neurons always share theirs.
        activations: whether nodes hear which activation functions are applied to them.
        read_out: of a network: `"pool"`, mean and maximum over inputs, hidden neurons and outputs;
            `"attention"`, weighted means over all nodes; `"outputs"`, the states of the outputs
            beside each other, as many as the example has.
        probes: arguments of :class:`~ngopt.encoders.probes.Probes`, such as `{"shape": (2,)}`;
            nodes then hear what networks make of them. None for no probes.
        entry_outputs: number of outputs of :meth:`entries`; 0 for none.
        seed: of the draw of the weights.

    Raises:
        EncoderError: if an option makes no sense.
    """

    def __init__(
        self,
        example: Example | None = None,
        *,
        width: int,
        edge_width: int,
        scale: str = "kind",
        fourier: int = 0,
        fourier_spread: float = 3.0,
        positions: Sequence[str] = POSITIONS,
        embedding: str = "index",
        activations: bool = True,
        read_out: str = "pool",
        probes: Mapping[str, Any] | None = None,
        entry_outputs: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        name = type(self).__name__
        check_sizes(name, edge_width=edge_width)
        check_choice(name, "scale", scale, SCALES)
        check_choice(name, "embedding", embedding, EMBEDDINGS)
        check_choice(name, "read_out", read_out, READ_OUTS)
        self.edge_width, self.entry_outputs = edge_width, entry_outputs
        tied = scale == "tensor" or embedding == "learned" or read_out == "outputs"
        self.architecture = Architecture(example) if tied and example is not None else None
        self.options: dict[str, Any] = {
            "scale": scale,
            "fourier": fourier,
            "fourier_spread": fourier_spread,
            "positions": list(positions),
            "embedding": embedding,
            "activations": activations,
            "read_out": read_out,
        }
        self.positions = Positions(positions)
        self.scale = Scale(self._bundles() if scale == "tensor" else None)
        self.features = EntryFeatures(fourier, fourier_spread, self.generator)
        self.edge_map = EntryMap(self.features.count, edge_width, self.generator)
        learned = embedding == "learned"
        self.node_map = NodeMap(
            width,
            self.generator,
            activations=activations,
            index=embedding == "index",
            inputs=self._count(INPUT) if learned else 0,
            outputs=self._count(OUTPUT) if learned else 0,
        )
        made = Probes(**{"seed": seed, **probes}) if probes is not None else None
        self.probes = made if made is not None and made.count else None
        if self.probes is not None:
            self.options["probes"] = self.probes.config
            self.answers = nn.Sequential(
                Affine(self.probes.count, width, self.generator), LayerNorm(width)
            )
        self.build()
        self.read_out = self._read_out(read_out)
        if entry_outputs:
            self.own = EntryMap(self.features.count, width, self.generator)
            self.around = PairAffine(edge_width, width, width, self.generator)
            self.entry_head = FeedForward([width, width, entry_outputs], self.generator)
            self.edit_scale = nn.Parameter(torch.full((len(self.scale.size),), EDIT_SCALE))

    @abstractmethod
    def build(self) -> None:
        """Make the layers of the body."""

    @abstractmethod
    def body(self, batch: Batch, nodes: Tensor, edges: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Compute the last states of nodes and edges.

        Args:
            batch: the networks.
            nodes: first states of the nodes, `(nodes, width)`.
            edges: first states of the edges, arrays `(groups, out, in, edge_width)`.

        Returns:
            States of the same shapes.
        """

    @property
    def shared_config(self) -> dict[str, Any]:
        """The arguments that all encoders on the graph have."""
        return {
            "example": None if self.architecture is None else self.architecture.plain,
            "width": self.width,
            "edge_width": self.edge_width,
            **self.options,
            "entry_outputs": self.entry_outputs,
            "seed": self.seed,
        }

    def fit_scale(self, networks: Networks) -> None:
        """Measure the size of parameters, for what is read from now on.

        Args:
            networks: those that the encoder is trained on.
        """
        self.scale.fit(self._batch(networks))

    def encode(self, networks: Networks) -> Tensor:
        """Return a vector for each network, `(networks, width)`; as every `Encoder` does."""
        batch = self._batch(networks)
        nodes, _, _ = self._states(batch)
        batch_graph = batch.graph
        if isinstance(self.read_out, Concatenation):
            result: Tensor = self.read_out(nodes[batch_graph.roles == OUTPUT], len(networks))
        else:
            connectivity = batch.connectivity
            result = self.read_out(
                nodes, connectivity.node_network, batch_graph.roles, connectivity.networks
            )
        return networks.in_order([result])

    def neurons(self, networks: Networks) -> list[dict[str, Tensor]]:
        """Return the last states of neurons.

        Returns:
            For each stack, `(networks, neurons, width)` by the names of the spaces whose product
            the neurons are, separated by spaces.
        """
        batch = self._batch(networks)
        nodes, _, _ = self._states(batch)
        result, start = [], 0
        for stack, known in zip(networks, batch.graph.nodes, strict=True):
            stop = start + len(stack) * known.count
            states = nodes[start:stop].view(len(stack), known.count, -1)
            start = stop
            result.append(
                {
                    " ".join(item.spaces): states[:, item.start : item.start + item.size]
                    for item in known.sets
                    if item.spaces
                }
            )
        return result

    def entries(self, networks: Networks) -> list[dict[str, Tensor]]:
        """Return outputs for each entry of each parameter, such as changes of it.

        They move with the neurons if these are permuted. Those of each kind of layer, or of each
        tensor, are multiplied by a learned number, 0.01 at first; see `scale`.

        Returns:
            For each stack, `(networks, *shape, entry_outputs)` by name of the parameter.

        Raises:
            EncoderError: if the encoder was built with `entry_outputs=0`, or for other networks.
        """
        if not self.entry_outputs:
            raise EncoderError(
                "this encoder has no outputs for entries.\n"
                f"  Build it with {type(self).__name__}(entry_outputs=1)."
            )
        batch = self._batch(networks)
        nodes, edges, features = self._states(batch)
        size = self.edit_scale.to(nodes)[self.scale.rows(batch)]
        own = self.own(batch, features)
        arrays = []
        for x, edge, where in zip(own, edges, batch.connectivity.edges, strict=True):
            hidden = silu(x + self.around(edge, nodes, where.ends).unsqueeze(3))
            factor = size[where.bundle][:, None, None, None, None]
            arrays.append(self.entry_head(hidden) * factor)
        return batch.parameters(arrays)

    def _states(self, batch: Batch) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Last states of nodes and edges, and the features of entries."""
        features = [self.features(values) for values in self.scale(batch)]
        edges = [_over_taps(silu(x)) for x in self.edge_map(batch, features)]
        nodes = self.node_map(batch)
        if self.probes is not None:
            responses = [
                self.probes.node_responses(stack).flatten(0, 1) for stack in batch.networks
            ]
            nodes = nodes + self.answers(torch.cat(responses))
        nodes, edges = self.body(batch, nodes, edges)
        return nodes, edges, features

    def _batch(self, networks: Networks) -> Batch:
        check_some(networks)
        if self.scale.by_bundle and self.architecture is not None:
            self.architecture.check(networks, type(self).__name__)
        batch = Batch.of(networks, self.positions)
        learned = self.options["embedding"] == "learned"
        if learned:
            self._check_count(batch, INPUT, "inputs")
        if learned or self.options["read_out"] == "outputs":
            self._check_count(batch, OUTPUT, "outputs")
        return batch

    def _check_count(self, batch: Batch, role: int, word: str) -> None:
        expected = self._count(role)
        for nodes in batch.graph.nodes:
            found = count_role(nodes, role)
            if found != expected:
                raise EncoderError(
                    f"this {type(self).__name__} was made for networks of {expected} {word}, but "
                    f"one has {found}.\n  Make one from an example of these networks, or with "
                    'embedding="index" and read_out="pool", which take any number.'
                )

    def _count(self, role: int) -> int:
        return count_role(nodes_of(self._known().graph), role)

    def _bundles(self) -> int:
        return len(self._known().graph.bundles)

    def _known(self) -> Architecture:
        if self.architecture is None:
            raise EncoderError(
                f"{type(self).__name__} needs an example with these options.\n  Give the graph of "
                f'the networks first, {type(self).__name__}(graph), or use scale="kind", '
                'embedding="index" and read_out="pool".'
            )
        return self.architecture

    def _read_out(self, name: str) -> nn.Module:
        if name == "outputs":
            return Concatenation(self.width, self._count(OUTPUT), self.width, self.generator)
        if name == "attention":
            return AttentionPool(self.width, self.width, self.generator)
        return Pool(self.width, len(ROLES), self.width, self.generator)


def _over_taps(x: Tensor) -> Tensor:
    """Mean over the taps, `(groups, out, in, width)`; most layers have one."""
    return x.squeeze(3) if x.shape[3] == 1 else x.mean(3)
