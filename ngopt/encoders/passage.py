"""What a graph alone determines of one pass through a network, in the order of inference."""

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
"""Frequencies that tell places apart: neurons of inputs and outputs, taps of a kernel."""

PLACE = 2 * WAVES
"""Numbers that tell where a pinned neuron stands among those of its set."""

TAP_PLACE = 4 * WAVES
"""Numbers that tell where a tap stands along the last two dimensions of its kernel."""


@dataclass(frozen=True)
class Reading:
    """How one bundle is read.

    Args:
        bundle: the bundle.
        structure: what the graph alone tells of it.
        taps: where its taps stand, `(tap, TAP_PLACE)`; None if there is one only.
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
class Passage:
    """A graph in the order of inference.

    Args:
        sets: the sets of its nodes.
        updates: of these sets, from inputs to outputs.
        readings: how each of `graph.bundles` is read.
        places: where the nodes of each set stand, `(nodes, PLACE)`; zeros for hidden neurons.
        ends: numbers of the sets that are updated and that no bundle reads.
        hidden: numbers of the others that are updated.
    """

    sets: tuple[NodeSet, ...]
    updates: tuple[Update, ...]
    readings: tuple[Reading, ...]
    places: tuple[Tensor, ...]
    ends: tuple[int, ...]
    hidden: tuple[int, ...]

    @classmethod
    def of(cls, graph: NeuralGraph, positions: Positions, device: torch.device) -> "Passage":
        """Plan the pass through networks of a graph.

        Args:
            graph: the graph.
            positions: the positional features to show.
            device: of index tensors.
        """
        nodes = nodes_of(graph)
        updates = inference_order(graph, nodes)
        joined = incidences(graph, nodes, device)
        readings = tuple(
            _reading(
                graph, positions, bundle, ends, (nodes.sets[target], nodes.sets[source]), source
            )
            for bundle, ends, target, source in zip(
                graph.bundles, joined, nodes.targets, nodes.sources, strict=True
            )
        )
        updated = list(dict.fromkeys(update.target for update in updates))
        read = {reading.source for reading in readings}
        ends = tuple(number for number in updated if number not in read)
        return cls(
            nodes.sets,
            updates,
            readings,
            tuple(_places(item, device) for item in nodes.sets),
            ends or tuple(updated),
            tuple(number for number in updated if number in read) or tuple(updated),
        )


def _reading(
    graph: NeuralGraph,
    positions: Positions,
    bundle: Bundle,
    ends: Incidence,
    sets: tuple[NodeSet, NodeSet],
    source: int,
) -> Reading:
    taps = positions.taps(bundle, ends.target.new_zeros((), dtype=torch.float64))
    inputs = "in" in bundle.roles
    return Reading(
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
