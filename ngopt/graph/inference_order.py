"""The order in which a forward pass computes the neurons of a graph."""

from typing import NamedTuple

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import Nodes


class Update(NamedTuple):
    """A set of nodes that takes in all that enters it at one depth.

    Args:
        target: number of the set in `nodes.sets`.
        bundles: numbers of the bundles that enter it, in `graph.bundles`.
    """

    target: int
    bundles: tuple[int, ...]


def inference_order(graph: NeuralGraph, nodes: Nodes) -> tuple[Update, ...]:
    """Sort the bundles of a graph into updates of its sets of nodes, from inputs to outputs.

    Shallow bundles come before deep ones. Of the same depth, as the layers of one `nn.LSTM`, a set
    comes after those that it reads, unless they read it too. A set that bundles enter at several
    depths, as the stream of a residual network, is updated at each of them. Bundles of one depth
    that enter no neurons, as weight and bias of a single output, enter the same lone node: the
    first of theirs.

    Args:
        graph: the graph.
        nodes: its nodes, from :func:`ngopt.graph.nodes.nodes_of`.
    """
    entering: dict[float, dict[int, list[int]]] = {}
    lone: dict[float, int] = {}
    for number, bundle in enumerate(graph.bundles):
        depth, target = graph.layouts[bundle.parameter].depth, nodes.targets[number]
        if not nodes.sets[target].spaces:
            target = lone.setdefault(depth, target)
        entering.setdefault(depth, {}).setdefault(target, []).append(number)
    return tuple(
        update for depth in sorted(entering) for update in _in_turn(entering[depth], nodes)
    )


def _in_turn(entering: dict[int, list[int]], nodes: Nodes) -> list[Update]:
    """Updates of the same depth: what is read comes first, where nothing reads in a circle."""
    waiting = {
        target: {nodes.sources[number] for number in bundles} - {target}
        for target, bundles in entering.items()
    }
    result = []
    while waiting:
        ready = (target for target, read in waiting.items() if not read & waiting.keys())
        target = next(ready, next(iter(waiting)))
        del waiting[target]
        result.append(Update(target, tuple(entering[target])))
    return result
