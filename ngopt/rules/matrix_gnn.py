"""The scalable default rule: a graph network whose messages are products of matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ngopt.features.entries import Edges, entry_features
from ngopt.features.moments import (
    Moments,
    check_momentum_dtype,
    compute_dtype,
    init_moments,
    update_moments,
)
from ngopt.features.neurons import NEURON_FEATURES, ends, neuron_features
from ngopt.features.tensors import TENSOR_FEATURES, structure, tensor_features
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.affine import Affine
from ngopt.rules.entry_head import EntryHead
from ngopt.rules.messages import Link, Round
from ngopt.rules.rule import Rule, State
from ngopt.rules.skeleton import Skeleton


class _Part(NamedTuple):
    layout: Layout
    bundle: Bundle
    edges: Edges
    step: Tensor


class MatrixGNN(Rule):
    """Graph network over neurons, then a small network over entries, on the safe skeleton.

    Neurons start from statistics of their rows and columns. In each round the RMS-normalised
    weight, Adam-direction and momentum matrices, times the states at one end of a bundle, are the
    messages to the other end. The network of each entry sees the entry's own features and the
    states of its two neurons, and corrects the base direction. The graph touches the direction
    only: the size of a bundle's step is learned from the features of the bundle. No tensor of
    edges x width is built. A fresh rule is Adam with a slow momentum and steps scaled by fan-in.

    Parameters on different devices, or computed in different precision, exchange no messages.

    Args:
        width: size of a neuron's state.
        rounds: number of rounds of messages.
        hidden: number of hidden units of the network of each entry.
        graph_context: whether neurons have states at all; without, each entry is on its own. Theta
            has the same shape either way.
        momentum_dtype: in which momenta are stored, `"bfloat16"` or `"float32"`.
        skeleton: changes to the defaults of :class:`~ngopt.rules.skeleton.Skeleton`, by name.
        seed: of the fresh theta; the global random state is left alone.
    """

    def __init__(
        self,
        width: int = 16,
        rounds: int = 2,
        hidden: int = 8,
        *,
        graph_context: bool = True,
        momentum_dtype: str = "bfloat16",
        skeleton: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_momentum_dtype(momentum_dtype)
        self.width, self.hidden, self.seed = width, hidden, seed
        self.graph_context = graph_context
        self.momentum_dtype = momentum_dtype
        self.skeleton = Skeleton(**(skeleton or {}))
        generator = torch.Generator().manual_seed(seed)
        self.start = Affine(NEURON_FEATURES, width, generator)
        self.source = Affine(TENSOR_FEATURES, width, generator)
        self.rounds = nn.ModuleList(Round(width, generator) for _ in range(rounds))
        self.head = EntryHead(hidden, width, TENSOR_FEATURES, generator)
        self.scale = nn.Sequential(
            Affine(TENSOR_FEATURES, hidden, generator), nn.ReLU(), Affine(hidden, 1)
        )

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            "width": self.width,
            "rounds": len(self.rounds),
            "hidden": self.hidden,
            "graph_context": self.graph_context,
            "momentum_dtype": self.momentum_dtype,
            "skeleton": asdict(self.skeleton),
            "seed": self.seed,
        }

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """Moments of each parameter before its first step; the graph plays no part."""
        return {
            name: init_moments(parameter, self.momentum_dtype)
            for name, parameter in parameters.items()
        }

    def forward(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> tuple[dict[str, Tensor], State]:
        """Compute the update of each parameter that has a gradient; see :class:`Rule`."""
        new_state: State = {}
        alike: dict[tuple[torch.device, torch.dtype], dict[str, list[_Part]]] = {}
        for name, gradient in gradients.items():
            parameter = parameters[name]
            dtype = compute_dtype(parameter)
            layout = graph.layout(name)
            new_state[name], moments = update_moments(state[name], gradient)
            parts = _parts(
                layout,
                parameter.to(dtype),
                gradient.to(dtype),
                Moments(*(moment.to(dtype) for moment in moments)),
                new_state[name]["step"],
            )
            alike.setdefault((parameter.device, dtype), {})[name] = parts
        arrays: dict[str, list[Tensor]] = {}
        for together in alike.values():
            arrays.update(self._directions(together, graph))
        updates = {
            name: graph.layout(name).assemble(arrays[name], parameters[name]).to(parameters[name])
            for name in gradients
        }
        return updates, new_state

    def _directions(
        self, parts: Mapping[str, Sequence[_Part]], graph: NeuralGraph
    ) -> dict[str, list[Tensor]]:
        """Update arrays of each parameter's bundles; all on one device and of one dtype."""
        every = [part for several in parts.values() for part in several]
        arrays: dict[str, list[Tensor]] = {name: [] for name in parts}
        if not every:
            return arrays
        context = tensor_features(
            [structure(graph, part.layout, part.bundle) for part in every],
            [part.edges for part in every],
            [part.step for part in every],
        )
        scales = self.skeleton.scale(self.scale(context).squeeze(1))
        neurons = self._neurons(every, context) if self.graph_context else [()] * len(every)
        names = [name for name, several in parts.items() for _ in several]
        for name, part, *features in zip(names, every, context, scales, neurons, strict=True):
            bundle_context, scale, states = features
            entries = entry_features(part.edges)
            correction = self.head(entries, bundle_context, *states)
            correction = self.skeleton.gate(correction, part.edges.moments.square)
            base = self.skeleton.base(entries.adam, entries.slow, part.step)
            direction = self.skeleton.direction(base, correction)
            factor = self.skeleton.fan_scale(part.bundle, part.layout.kind)
            arrays[name].append(direction * (scale * factor))
        return arrays

    def _neurons(self, parts: Sequence[_Part], context: Tensor) -> list[tuple[Tensor, Tensor]]:
        """States of the output and input neurons of each bundle."""
        sides = [ends(part.bundle) for part in parts]
        features = neuron_features(
            [(side, part.edges) for side, part in zip(sides, parts, strict=True)]
        )
        states = {neurons: torch.tanh(self.start(x)) for neurons, x in features.items()}
        sources = torch.tanh(self.source(context))
        links = [
            Link.of(side, part.edges, source)
            for side, part, source in zip(sides, parts, sources, strict=True)
        ]
        for mix in self.rounds:
            states = mix(links, states)
        return [(link.out_state(states), link.in_state(states)) for link in links]


def _parts(
    layout: Layout, weight: Tensor, gradient: Tensor, moments: Moments, step: Tensor
) -> list[_Part]:
    views = zip(*(layout.views(tensor) for tensor in (weight, gradient, *moments)), strict=True)
    return [
        _Part(layout, bundle, Edges.of(w, g, Moments(*m)), step)
        for bundle, (w, g, *m) in zip(layout.bundles, views, strict=True)
    ]
