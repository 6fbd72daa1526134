"""Memory of neurons from step to step, stored with the parameters whose edges enter them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout
from ngopt.nn.recurrent import GRU
from ngopt.rules.graph_inputs import GraphInputs
from ngopt.rules.rule import State

KEY = "memory"
"""Name of the tensor in the state of a parameter."""


class NodeMemory(nn.Module):
    """A gated recurrent unit over time for each node.

    Each parameter stores the memory of the neurons that its edges enter: `(neurons, width)`, its
    bundles one after the other, each in the order `(group, out)`. A node that several bundles enter
    is stored several times, and remembers their mean, so that what one of them lost is not missed.

    Args:
        width: size of a node's state and of its memory.
        generator: draws the weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = width
        self.unit = GRU(width, width, generator)

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """No memory of the neurons that a parameter's edges enter."""
        neurons = sum(bundle.shape[0] * bundle.shape[1] for bundle in layout.bundles)
        return {KEY: parameter.new_zeros(neurons, self.width, dtype=compute_dtype(parameter))}

    def forward(self, graph_inputs: GraphInputs, nodes: Tensor) -> tuple[Tensor, State]:
        """Take the states of the nodes in.

        Args:
            graph_inputs: of the network; memory from another graph is ignored.
            nodes: states, `(nodes, width)`.

        Returns:
            What each node remembers now, `(nodes, width)`, and the same as it is to be stored.
        """
        places = _places(graph_inputs)
        memory = self.unit(nodes, _recall(places, graph_inputs.memory, nodes))
        return memory, {name: {KEY: memory[index]} for name, index in places.items()}


def _places(graph_inputs: GraphInputs) -> dict[str, Tensor]:
    """For each parameter, numbers of the nodes that its edges enter."""
    found: dict[str, list[Tensor]] = {}
    for inputs, ends in zip(graph_inputs.bundles, graph_inputs.ends, strict=True):
        found.setdefault(inputs.name, []).append(ends.target.flatten())
    return {name: torch.cat(index) for name, index in found.items()}


def _recall(places: Mapping[str, Tensor], state: State, nodes: Tensor) -> Tensor:
    """Mean of what is stored about each node; zeros where nothing is."""
    total, count = torch.zeros_like(nodes), nodes.new_zeros(len(nodes), 1)
    for name, index in places.items():
        stored = state[name][KEY].to(nodes)
        if stored.shape == (len(index), nodes.shape[1]):
            total = total.index_add(0, index, stored)
            count = count.index_add(0, index, nodes.new_ones(len(index), 1))
    return total / count.clamp(min=1)
