"""Positional features of bundles, neurons and taps, which can be switched off one by one.

None of them is an index of a neuron or of a layer, which would tie a rule to one network.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.bundle_features import STRUCTURE_PARTS, structure
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes, NodeSet

POSITIONS = ("depth", "fans", "ends", "axes", "kind", "taps")
"""Relative depth; numbers of inputs and outputs; whether inputs or outputs of the model; number of
axes and whether a bias; kind of layer; place within a kernel."""

FREQUENCIES = 4
TAP_POSITIONS = 2
_NODE_PARTS = {"depth": 2 * FREQUENCIES, "fans": 2, "ends": 3, "axes": 1}
NODE_POSITIONS = sum(_NODE_PARTS.values())


class Positions:
    """The positional features that a rule sees; those left out are zeros, so theta keeps its shape.

    Args:
        names: of :data:`POSITIONS`, those to show.

    Raises:
        RuleError: if there is no such feature.
    """

    def __init__(self, names: Iterable[str] = POSITIONS) -> None:
        given = tuple(names)
        unknown = sorted(set(given) - set(POSITIONS))
        if unknown:
            raise RuleError(
                f"there are no positional features {', '.join(map(repr, unknown))}.\n"
                f"  Use any of: {', '.join(POSITIONS)}."
            )
        self.names = tuple(name for name in POSITIONS if name in given)

    def structure(self, graph: NeuralGraph, layout: Layout, bundle: Bundle) -> list[float]:
        """Features of a bundle that the graph alone determines; see :func:`structure`."""
        numbers = structure(graph, layout, bundle)
        shown = [name in self.names for name, size in STRUCTURE_PARTS.items() for _ in range(size)]
        return [number * show for number, show in zip(numbers, shown, strict=True)]

    def nodes(self, nodes: Nodes, like: Tensor) -> Tensor:
        """Features of each node.

        Args:
            nodes: the nodes of a graph.
            like: gives dtype and device.

        Returns:
            `(nodes, NODE_POSITIONS)`: sines and cosines of relative depth; log numbers of edges in
            and out (in units of 10); whether pinned, an input or an output of the network; whether
            it stands for no neuron.
        """
        sizes = torch.tensor([item.size for item in nodes.sets], device=like.device)
        rows = like.new_tensor([self.node(item) for item in nodes.sets])
        return rows.repeat_interleave(sizes, 0, output_size=nodes.count)

    def taps(self, bundle: Bundle, like: Tensor) -> Tensor:
        """Coordinates of each tap, from -1 to 1, along the last two dimensions of the kernel.

        Args:
            bundle: the bundle.
            like: gives dtype and device.

        Returns:
            `(tap, TAP_POSITIONS)`; 0 along dimensions of one tap or none.
        """
        sizes = [bundle.sizes[d] for d in bundle.order if bundle.roles[d] == "tap"]
        result = like.new_zeros(*sizes, TAP_POSITIONS)
        if "taps" in self.names:
            for back, d in enumerate(reversed(range(len(sizes)))):
                if back < TAP_POSITIONS:
                    line = torch.linspace(-1, 1, sizes[d]) if sizes[d] > 1 else torch.zeros(1)
                    shape = [-1 if other == d else 1 for other in range(len(sizes))]
                    result[..., back] = line.to(like).view(shape)
        return result.reshape(-1, TAP_POSITIONS)

    def node(self, item: NodeSet) -> list[float]:
        """Features of each node of a set, of which :meth:`nodes` tells."""
        angles = [math.pi * 2**k * item.depth for k in range(FREQUENCIES)]
        parts = {
            "depth": [wave(angle) for wave in (math.sin, math.cos) for angle in angles],
            "fans": [math.log1p(item.fan_in) / 10, math.log1p(item.fan_out) / 10],
            "ends": [
                float(item.pinned),
                float(item.pinned and not item.fan_in),
                float(item.pinned and not item.fan_out),
            ],
            "axes": [float(not item.spaces)],
        }
        return [x * (name in self.names) for name, numbers in parts.items() for x in numbers]
