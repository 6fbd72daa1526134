"""An encoder in the order of inference: one pass from inputs to outputs, layer by layer, gated."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.encoders.encoder import Architecture, Encoder, Example, check_sizes, check_some
from ngopt.encoders.inference_plan import PLACE, TAP_PLACE, BundlePlan, InferencePlan
from ngopt.encoders.networks import Networks, Stack
from ngopt.errors import EncoderError
from ngopt.features.bundle_features import STRUCTURE
from ngopt.features.numbers import constant
from ngopt.features.positions import NODE_POSITIONS, POSITIONS, Positions
from ngopt.features.scale import root_inverse
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.space import ACTIVATIONS
from ngopt.nn.affine import Affine, LayerNorm
from ngopt.nn.feed_forward import FeedForward
from ngopt.nn.recurrent import GRU

KEPT = 256
"""Number of graphs of which the order is kept."""

ABOUT = STRUCTURE + 1
"""Features of a bundle: what the graph tells, and how large the entries are."""


class BundleReader(nn.Module):
    """Messages of a bundle: what its entries become, times what its input neurons become.

    Args:
        features: number of features of an entry.
        width: size of a neuron's state.
        inputs: whether there are input neurons.
        generator: draws the weights.
    """

    def __init__(self, features: int, width: int, inputs: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.entries = Affine(features, width, generator, bias=False)
        self.entries_about = Affine(ABOUT, width, generator)
        self.taps = Affine(TAP_PLACE, width, generator, bias=False)
        self.source = Affine(width, width, generator, bias=False) if inputs else None
        self.source_about = Affine(ABOUT, width, generator)

    def forward(
        self, features: Tensor, about: Tensor, taps: Tensor | None, source: Tensor | None
    ) -> Tensor:
        """Compute what enters each output neuron.

        Args:
            features: of all entries, `(networks, group, out, in, tap, features)`.
            about: features of the bundle, `(networks, ABOUT)`.
            taps: where its taps stand, `(tap, TAP_PLACE)`; None for one tap.
            source: states of the input neurons, `(networks, group, in, width)`; None for none.

        Returns:
            `(networks, group, out, width)`.
        """
        weight = self.entries.weight.to(features)
        if taps is not None:  # summed over taps by the same product
            factors = 1 + self.taps(taps.to(features))
            weight = (weight * factors.unsqueeze(1)).flatten(0, 1) * len(taps) ** -0.5
        read = features.flatten(4) @ weight
        given = self.source_about(about)[:, None, None]
        if self.source is not None:
            given = given + self.source(source)
        # What does not depend on the entry is summed up by itself, in no tensor of entries x width.
        shared = self.entries_about(about)[:, None, None] * given.sum(2, keepdim=True)
        result: Tensor = ((read * given.unsqueeze(2)).sum(3) + shared) * read.shape[3] ** -0.5
        return result


class OnePass(Encoder):
    r"""Encoder that goes through a network once, in the order in which it computes.

    The neurons of a layer take in what the layer before has become, entry by entry, and gates
    decide what they keep:

    .. math::
        m_i &= \sum_j E(\gamma(w_{ij})) \odot N(h_j) \\
        h_i' &= \mathrm{LN}(\mathrm{GRU}(s_i + B(\gamma(b_i)), h_i + m_i))

    with Fourier features :math:`\gamma` of entries over the root mean square of their bundle,
    affine maps that also see what kind of bundle it is, where it stands, and how large its entries
    are, and what the graph tells of a neuron, :math:`s_i`. A neuron that nothing has entered yet is
    0, and one that nothing ever enters, an input, is :math:`s_i`. Taps of a kernel are told apart
    by factors, and summed. A set of neurons that bundles enter at several depths, as the stream of
    a residual network, is updated at each of them. Parameters without inputs, such as those of
    norms, are biases.

    Every network is read by itself, whatever stands beside it in a batch, and any traced
    architecture can be read.

    Args:
        example: a graph or networks; needed for weights of their own.
        width: size of a neuron's state, and of the encoding.
        waves: number of random frequencies of the Fourier features of an entry.
        sigma: standard deviation of these frequencies, in periods per root mean square.
        own_weights: whether each parameter is read by weights of its own; the encoder is then one
            for the architecture of the example. Without, all parameters share theirs.
        positions: the positional features to show, of
            :data:`~ngopt.features.positions.POSITIONS`; the others are zeros.
        activations: whether to show which activation functions neurons have.
        seed: of the fresh weights; the global random state is left alone.

    Source: the encoder of dynamic neural graphs, which has weights of its own for each layer.
    Structure, taps by factors and updates at several depths are ngopt's.
    """

    def __init__(
        self,
        example: Example | None = None,
        width: int = 64,
        *,
        waves: int = 32,
        sigma: float = 1.0,
        own_weights: bool = False,
        positions: Iterable[str] = POSITIONS,
        activations: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(width, seed)
        check_sizes("OnePass", waves=waves)
        self.waves, self.sigma = waves, float(sigma)
        self.architecture = _architecture(example) if own_weights else None
        self.positions, self.activations = Positions(positions), activations
        generator = self.generator
        self.frequencies: Tensor
        frequencies = torch.randn(waves, generator=generator) * (2 * math.pi * sigma)
        self.register_buffer("frequencies", frequencies.repeat(2))
        edges = [True, False]  # those that are shared, of what has inputs and of what has none
        self.rows: dict[str, int] = {}
        if self.architecture is not None:
            layouts = self.architecture.graph.parameters
            self.rows = {name: row for row, name in enumerate(layouts)}
            edges = [any("in" in b.roles for b in x.bundles) for x in layouts.values()]
        self.readers = nn.ModuleList(
            BundleReader(2 * waves, width, inputs, generator) for inputs in edges
        )
        self.start = Affine(NODE_POSITIONS + PLACE + len(ACTIVATIONS), width, generator)
        self.gates = GRU(width, width, generator)
        self.norm = LayerNorm(width)
        self.read = FeedForward((2 * width, width, width), generator)
        self.plans: dict[tuple[int, torch.device], tuple[NeuralGraph, InferencePlan]] = {}

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this encoder again, as plain data."""
        return {
            "example": None if self.architecture is None else self.architecture.plain,
            "width": self.width,
            "waves": self.waves,
            "sigma": self.sigma,
            "own_weights": self.architecture is not None,
            "positions": list(self.positions.names),
            "activations": self.activations,
            "seed": self.seed,
        }

    def encode(self, networks: Networks) -> Tensor:
        """Return a vector for each network, `(networks, width)`; as every `Encoder` does."""
        check_some(networks)
        if self.architecture is not None:
            self.architecture.check(networks, "OnePass")
        return networks.in_order([self._encode(stack) for stack in networks])

    def neurons(self, networks: Networks) -> list[dict[str, Tensor]]:
        """Return the states of neurons at the end of the pass, which move with the neurons.

        Returns:
            For each stack, `(networks, neurons, width)` by the names of the spaces whose product
            the neurons are, separated by spaces; those that nothing enters are as at the start.
        """
        result = []
        for stack in networks:
            plan = self.plan(stack)
            states = self._pass(stack, plan)
            result.append(
                {
                    " ".join(item.spaces): states[n] if n in states else self._start(stack, plan, n)
                    for n, item in enumerate(plan.sets)
                    if item.spaces
                }
            )
        return result

    def _encode(self, stack: Stack) -> Tensor:
        plan = self.plan(stack)
        states = self._pass(stack, plan)
        means = [
            torch.cat([states[number] for number in numbers], 1).mean(1)
            for numbers in (plan.ends, plan.hidden)
        ]
        result: Tensor = self.read(torch.cat(means, 1))
        return result

    def _pass(self, stack: Stack, plan: InferencePlan) -> dict[int, Tensor]:
        """States of all sets of nodes that are updated, `(networks, nodes, width)`."""
        states: dict[int, Tensor] = {}
        for target, bundles in plan.updates:
            known = self._start(stack, plan, target)
            memory = states.get(target, torch.zeros_like(known))
            for bundle_plan in (plan.bundle_plans[number] for number in bundles):
                source = None
                if bundle_plan.source is not None:
                    source = states.get(bundle_plan.source)
                    if source is None:
                        source = self._start(stack, plan, bundle_plan.source)
                message = self._message(stack, bundle_plan, source)
                if bundle_plan.into is not None:
                    message = torch.zeros_like(known).index_add(1, bundle_plan.into, message)
                if source is None:
                    known = known + message
                else:
                    memory = memory + message
            states[target] = self.norm(self.gates(known, memory))
        return states

    def _message(self, stack: Stack, bundle_plan: BundlePlan, source: Tensor | None) -> Tensor:
        """What a bundle says to each node that it enters, `(networks, group * out, width)`."""
        bundle = bundle_plan.bundle
        array = torch.vmap(bundle.view)(stack.parameters[bundle.parameter])
        inverse = root_inverse(array.square().mean((1, 2, 3, 4), keepdim=True))
        features = self._features(array * inverse)
        size = torch.log(inverse).reshape(-1, 1) / -5
        structure = constant(bundle_plan.structure, array).expand(len(array), -1)
        if source is not None:
            source = source if bundle_plan.rows is None else source[:, bundle_plan.rows]
            source = source.reshape(len(array), array.shape[1], array.shape[3], -1)
        reader = self.readers[self.rows.get(bundle.parameter, int(bundle_plan.source is None))]
        message: Tensor = reader(
            features, torch.cat([structure, size], 1), bundle_plan.taps, source
        )
        return message.flatten(1, 2)

    def _features(self, array: Tensor) -> Tensor:
        """Sines and cosines of entries, `(..., 2 * waves)`."""
        frequencies = self.frequencies.to(array)
        phases = torch.zeros_like(frequencies)
        phases[self.waves :] = math.pi / 2
        return torch.addcmul(phases, array.unsqueeze(-1), frequencies).sin()

    def _start(self, stack: Stack, plan: InferencePlan, number: int) -> Tensor:
        """States of nodes that nothing has entered yet, `(networks, nodes, width)`."""
        like = next(iter(stack.parameters.values()))
        places = plan.places[number].to(like)
        shared = [*self.positions.node(plan.sets[number]), *self._applied(stack, plan, number)]
        rows = constant(shared, like).expand(len(places), -1)
        start: Tensor = self.start(torch.cat([rows, places], 1))
        return start.expand(len(stack), -1, -1)

    def _applied(self, stack: Stack, plan: InferencePlan, number: int) -> list[float]:
        """Which activation functions the neurons of a set have."""
        spaces = [stack.graph.spaces[name] for name in plan.sets[number].spaces]
        names = {name for space in spaces for name in space.activation.split()}
        return [float(self.activations and name in names) for name in ACTIVATIONS]

    def plan(self, stack: Stack) -> InferencePlan:
        """The order in which networks of a stack are read."""
        device = next(iter(stack.parameters.values())).device
        key = id(stack.graph), device
        graph, plan = self.plans.get(key, (None, None))
        if plan is None or graph is not stack.graph:  # in a copy, numbers are of other graphs
            plan = InferencePlan.of(stack.graph, self.positions, device)
            self.plans[key] = stack.graph, plan
            while len(self.plans) > KEPT:
                del self.plans[next(iter(self.plans))]
        return plan


def _architecture(example: Example | None) -> Architecture:
    if example is None:
        raise EncoderError(
            "OnePass needs an example to have weights for each of its parameters.\n"
            "  Use OnePass(graph, own_weights=True), or own_weights=False for any graph."
        )
    return Architecture(example)
