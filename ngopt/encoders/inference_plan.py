"""Plan of one pass through a network in the order of inference, from its graph alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ngopt.features.positions import Positions
from ngopt.graph.bundle import Bundle
from ngopt.graph.incidence import Incidence, incidences
from ngopt.graph.inference_order import Update, inference_order
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import NodeSet, nodes_of

WAVES = 6
"""Number of frequencies that encode positions: of pinned neurons, and of taps of a kernel."""

PLACE = 2 * WAVES
"""Number of features that encode the index of a pinned neuron in its set."""

TAP_PLACE = 4 * WAVES
"""Number of features that encode the position of a tap in the last two dimensions of a kernel."""


@dataclass(frozen=True)
class BundlePlan:
    """How one bundle is read in the pass.

    Args:
        bundle: the bundle.
        structure: its features that the graph alone determines.
        taps: positions of its taps, `(tap, TAP_PLACE)`; None for a single tap.
        source: number of the set of nodes that it reads; None if it has no inputs.
        rows: which nodes of that set, `(group * in,)`; None for all in their order.
        into: which nodes of its target it enters, `(group * out,)`; None for all in their order.
    """

    bundle: Bundle
    structure: list[float]
    taps: Tensor | None
    source: int | None
    rows: Tensor | None
    into: Tensor | None


@dataclass(frozen=True)
class InferencePlan:
    """Sets of nodes and bundles of a graph in the order of inference.

    Args:
        sets: the sets of its nodes.
        updates: of these sets, from inputs to outputs.
        bundle_plans: how each of `graph.bundles` is read.
        places: positions of the nodes of each set, `(nodes, PLACE)`; zeros for hidden neurons.
        ends: numbers of the sets that are updated and that no bundle reads.
        hidden: numbers of the others that are updated.
    """

    sets: tuple[NodeSet, ...]
    updates: tuple[Update, ...]
    bundle_plans: tuple[BundlePlan, ...]
    places: tuple[Tensor, ...]
    ends: tuple[int, ...]
    hidden: tuple[int, ...]

    @classmethod
    def of(cls, graph: NeuralGraph, positions: Positions, device: torch.device) -> "InferencePlan":
        """Plan the pass through networks of a graph.

        Args:
            graph: the graph.
            positions: the positional features to show.
            device: of index tensors.
        """
        nodes = nodes_of(graph)
        updates = inference_order(graph, nodes)
        joined = incidences(graph, nodes, device)
        bundle_plans = tuple(
            _bundle_plan(
                graph, positions, bundle, ends, (nodes.sets[target], nodes.sets[source]), source
            )
            for bundle, ends, target, source in zip(
                graph.bundles, joined, nodes.targets, nodes.sources, strict=True
            )
        )
        updated = list(dict.fromkeys(update.target for update in updates))
        read = {bundle_plan.source for bundle_plan in bundle_plans}
        ends = tuple(number for number in updated if number not in read)
        return cls(
            nodes.sets,
            updates,
            bundle_plans,
            tuple(_places(item, device) for item in nodes.sets),
            ends or tuple(updated),
            tuple(number for number in updated if number in read) or tuple(updated),
        )


def _bundle_plan(
    graph: NeuralGraph,
    positions: Positions,
    bundle: Bundle,
    ends: Incidence,
    sets: tuple[NodeSet, NodeSet],
    source: int,
) -> BundlePlan:
    taps = positions.taps(bundle, ends.target.new_zeros((), dtype=torch.float64))
    inputs = "in" in bundle.roles
    return BundlePlan(
        bundle,
        positions.structure(graph, graph.layouts[bundle.parameter], bundle),
        waves(taps).flatten(1) if len(taps) > 1 else None,
        source if inputs else None,
        _index(ends.source - sets[1].start, sets[1].size) if inputs else None,
        _index(ends.target - sets[0].start, sets[0].size),
    )


def _index(numbers: Tensor, size: int) -> Tensor | None:
    numbers = numbers.flatten()
    every = torch.arange(size, device=numbers.device)
    return None if torch.equal(numbers, every) else numbers


def _places(item: NodeSet, device: torch.device) -> Tensor:
    """Sines and cosines of the number of each node, of periods of 2, 4, 8, ... nodes."""
    if not (item.pinned and item.spaces):
        return torch.zeros(item.size, PLACE, dtype=torch.float64, device=device)
    numbers = torch.arange(item.size, dtype=torch.float64, device=device)
    return waves(numbers / 2 ** (WAVES - 1))


def waves(x: Tensor) -> Tensor:
    """Sines and cosines of `x (...)` with periods of `2, 1, 1/2, ...`, `(..., 2 * WAVES)`."""
    angles = x.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(WAVES).to(x))
    return torch.cat([angles.sin(), angles.cos()], -1)
