"""One graph for all the parameters of an optimizer, joined from those of its models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle
from ngopt.graph.neural_graph import NeuralGraph

EMPTY = NeuralGraph({}, {}, {}, verified=True)


def joined(first: NeuralGraph, second: NeuralGraph) -> NeuralGraph:
    """Put two graphs side by side; where both have a name, the second counts."""
    graph = NeuralGraph(
        {**first.spaces, **second.spaces},
        {**first.layouts, **second.layouts},
        {**first.aliases, **second.aliases},
        tuple(dict.fromkeys((*first.unknown, *second.unknown))),
        first.verified and second.verified,
    )
    for part in (graph, *graph.bundles):
        _compute_cached(part)
    return graph


def _compute_cached(part: object) -> None:
    # The first access takes a lock before Python 3.12, which torch.compile cannot follow.
    for name, value in vars(type(part)).items():
        if isinstance(value, cached_property):
            getattr(part, name)


def renamed(graph: NeuralGraph, rename: Callable[[str], str], prefix: str = "") -> NeuralGraph:
    """Return the same graph under other names.

    Args:
        graph: the graph.
        rename: from the old name of a tensor to its new one.
        prefix: put before the name of each space.
    """

    def bundle(old: Bundle) -> Bundle:
        factors = tuple(prefix + f if isinstance(f, str) else f for f in old.factors)
        return replace(old, parameter=rename(old.parameter), factors=factors)

    spaces = [
        replace(space, name=prefix + space.name, within=tuple(prefix + w for w in space.within))
        for space in graph.spaces.values()
    ]
    layouts = [
        replace(old, name=rename(old.name), bundles=tuple(bundle(b) for b in old.bundles))
        for old in graph.layouts.values()
    ]
    return NeuralGraph(
        {space.name: space for space in spaces},
        {layout.name: layout for layout in layouts},
        {rename(alias): rename(name) for alias, name in graph.aliases.items()},
        graph.unknown,
        graph.verified,
    )


def complete(graph: NeuralGraph, tensors: Mapping[str, Tensor]) -> NeuralGraph:
    """Add each tensor that the graph does not describe as a graph by itself.

    A tensor of another shape than described counts as not described: frameworks may put other
    tensors, such as flattened ones, in place of a model's parameters.
    """
    missing = {name: t.shape for name, t in tensors.items() if not _fits(graph, name, t)}
    if not missing:
        return graph
    lone = NeuralGraph.per_tensor(missing)
    # Lone tensors claim no symmetry, so there is nothing in them that could be unverified.
    return joined(graph, replace(lone, verified=True))


def fitting(graph: NeuralGraph, tensors: Mapping[str, Tensor]) -> NeuralGraph:
    """Leave out what the graph says of tensors that have another shape now."""
    known = [name for name in tensors if graph.describes(name)]
    stale = {graph.layout(name).name for name in known if not _fits(graph, name, tensors[name])}
    if not stale:
        return graph
    layouts = {name: layout for name, layout in graph.layouts.items() if name not in stale}
    aliases = {name: of for name, of in graph.aliases.items() if of not in stale}
    return joined(EMPTY, replace(graph, layouts=layouts, aliases=aliases))


def _fits(graph: NeuralGraph, name: str, tensor: Tensor) -> bool:
    return graph.describes(name) and graph.layout(name).shape == tensor.shape


def check_fit(graph: NeuralGraph, tensors: Mapping[str, Tensor]) -> None:
    """Raise `GraphError` unless the graph describes each tensor with the shape it has."""
    for name, tensor in tensors.items():
        layout = graph.layout(name)
        if layout.buffer:
            raise GraphError(
                f"the graph describes `{name}` as a state buffer, but it is a parameter.\n"
                "  Trace the model that is being trained: ngopt.trace(model, *inputs)."
            )
        layout.check(tensor)
