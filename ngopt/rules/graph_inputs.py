"""The inputs of a network on the graph in one step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ngopt.features.positions import Positions
from ngopt.graph.bundle import Bundle
from ngopt.graph.incidence import Incidence, incidences
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, nodes_of
from ngopt.nn.connectivity import Connectivity
from ngopt.rules.rule import State


@dataclass(frozen=True)
class BundleInputs:
    """The inputs for one bundle of a parameter that has a gradient.

    Args:
        layout: of its parameter.
        bundle: the bundle.
        signals: weight, gradient and momenta of its entries as the recipe keeps them, arrays
            `(group, out, in, tap)`.
        step: number of gradients that its parameter has had, 0-dim.
        name: by which the rule's caller knows its parameter.
        layers: number of layers of the model, on the shortest path from inputs to outputs.
    """

    layout: Layout
    bundle: Bundle
    signals: tuple[Tensor, ...]
    step: Tensor
    name: str
    layers: int


@dataclass(frozen=True)
class GraphInputs:
    """The inputs for all bundles of one device and dtype that have a gradient, and their nodes.

    Args:
        graph: the graph; it may have more bundles than have a gradient.
        bundles: the bundles.
        features: of each bundle's entries, `(group, out, in, tap, channels)`.
        context: features of each bundle as a whole, `(bundles, context)`.
        taps: coordinates of each bundle's taps, `(tap, TAP_POSITIONS)`.
        nodes: the sets of nodes of the graph.
        ends: numbers of the nodes at both ends of each bundle.
        positions: features of each node, `(nodes, NODE_POSITIONS)`.
        memory: state of each parameter, by the name that its bundles have.
    """

    graph: NeuralGraph
    bundles: tuple[BundleInputs, ...]
    features: tuple[Tensor, ...]
    context: Tensor
    taps: tuple[Tensor, ...]
    nodes: Nodes
    ends: tuple[Incidence, ...]
    positions: Tensor
    memory: State

    @classmethod
    def of(
        cls,
        graph: NeuralGraph,
        bundles: Sequence[BundleInputs],
        features: Sequence[Tensor],
        context: Tensor,
        shown: Positions,
        memory: State,
    ) -> "GraphInputs":
        """Add the nodes of the graph to some bundles and their features."""
        nodes = nodes_of(graph)
        ends = dict(zip(graph.bundles, incidences(graph, nodes, context.device), strict=True))
        return cls(
            graph,
            tuple(bundles),
            tuple(features),
            context,
            tuple(shown.taps(inputs.bundle, context) for inputs in bundles),
            nodes,
            tuple(ends[inputs.bundle] for inputs in bundles),
            shown.nodes(nodes, context),
            memory,
        )

    @cached_property
    def connectivity(self) -> Connectivity:
        """Which nodes the bundles connect."""
        bundles = [inputs.bundle for inputs in self.bundles]
        return Connectivity.of_one(self.nodes, bundles, self.ends, self.context)

    def entry_features(self) -> list[Tensor]:
        """All features of each entry: its own, its tap's position, and those of its bundle.

        Returns:
            For each bundle `(group, out, in, tap, channels + TAP_POSITIONS + context)`.
        """
        result = []
        for features, taps, context in zip(self.features, self.taps, self.context, strict=True):
            known = torch.cat([taps, context.expand(len(taps), -1)], 1)
            result.append(torch.cat([features, known.expand(*features.shape[:-1], -1)], -1))
        return result
