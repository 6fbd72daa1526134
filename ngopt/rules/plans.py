"""What is made once for a rule and a graph."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.rule import Rule

MOST = 24
"""Number of things that are kept, the last that were used."""

Kept = TypeVar("Kept")


def kept(rule: Rule, graph: NeuralGraph, name: Hashable, make: Callable[[], Kept]) -> Kept:
    """Something about a rule and a graph, made if it is not there yet.

    Args:
        rule: with which it is kept.
        graph: of which it is known.
        name: tells several apart.
        make: makes it.
    """
    known: dict[Any, tuple[NeuralGraph, Any]] = rule.__dict__.setdefault("kept", {})
    key = id(graph), name
    known[key] = known.pop(key) if key in known else (graph, make())
    while len(known) > MOST:
        del known[next(iter(known))]
    found: Kept = known[key][1]
    return found
