"""One graph for all parameters of an optimizer, joined from the graphs of its models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle
from ngopt.graph.neural_graph import NeuralGraph

EMPTY = NeuralGraph({}, {}, {}, verified=True)


def join(first: NeuralGraph, second: NeuralGraph) -> NeuralGraph:
    """Join two graphs; where both have the same name, the second one counts."""
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


def rename_parameters(
    graph: NeuralGraph, rename: Callable[[str], str], prefix: str = ""
) -> NeuralGraph:
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
    """Add a graph of a single tensor for each tensor that the graph does not describe.

    A tensor whose shape differs from the description counts as not described: frameworks may
    replace a model's parameters by other tensors, such as flattened ones.
    """
    missing = {name: t.shape for name, t in tensors.items() if not _fits(graph, name, t)}
    if not missing:
        return graph
    untraced = NeuralGraph.per_tensor(missing)
    # They claim no symmetry, so there is nothing to verify.
    return join(graph, replace(untraced, verified=True))


def without_stale(graph: NeuralGraph, tensors: Mapping[str, Tensor]) -> NeuralGraph:
    """Drop the layouts of tensors whose shape has changed."""
    known = [name for name in tensors if graph.describes(name)]
    stale = {graph.layout(name).name for name in known if not _fits(graph, name, tensors[name])}
    if not stale:
        return graph
    layouts = {name: layout for name, layout in graph.layouts.items() if name not in stale}
    aliases = {name: of for name, of in graph.aliases.items() if of not in stale}
    return join(EMPTY, replace(graph, layouts=layouts, aliases=aliases))


def _fits(graph: NeuralGraph, name: str, tensor: Tensor) -> bool:
    layout = graph.layouts.get(graph.aliases.get(name, name))
    return layout is not None and layout.shape == tensor.shape


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
