"""A graph as plain data (dicts, lists, strings, numbers), so that a `state_dict` can hold it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle, ViewStep
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.space import Space

VERSION = 1


def to_plain(graph: NeuralGraph) -> dict[str, Any]:
    """Return the graph as plain data that JSON and `torch.load(weights_only=True)` accept."""
    return {
        "version": VERSION,
        "spaces": [asdict(space) for space in graph.spaces.values()],
        "layouts": [asdict(layout) for layout in graph.layouts.values()],
        "aliases": dict(graph.aliases),
        "unknown": list(graph.unknown),
        "verified": graph.verified,
    }


def from_plain(data: Mapping[str, Any]) -> NeuralGraph:
    """Inverse of :func:`to_plain`.

    Raises:
        GraphError: if the data was written by another version or is damaged.
    """
    version = data.get("version")
    if version != VERSION:
        raise GraphError(
            f"cannot read a graph of version {version!r}; this ngopt reads version {VERSION}.\n"
            "  Trace the model again: ngopt.trace(model, *inputs)."
        )
    try:
        spaces = [Space(**{**s, "within": tuple(s["within"])}) for s in data["spaces"]]
        layouts = [_layout(layout) for layout in data["layouts"]]
        return NeuralGraph(
            {space.name: space for space in spaces},
            {layout.name: layout for layout in layouts},
            dict(data["aliases"]),
            tuple(data["unknown"]),
            bool(data["verified"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise GraphError(
            f"the data does not describe a graph ({error!r}).\n"
            "  Trace the model again: ngopt.trace(model, *inputs)."
        ) from error


def _layout(data: Mapping[str, Any]) -> Layout:
    bundles = tuple(_bundle(bundle) for bundle in data["bundles"])
    return Layout(**{**data, "shape": tuple(data["shape"]), "bundles": bundles})


def _bundle(data: Mapping[str, Any]) -> Bundle:
    steps = tuple(
        ViewStep(s["dim"], s["start"], s["length"], tuple(s["sizes"])) for s in data["steps"]
    )
    lists = {key: tuple(data[key]) for key in ("factors", "sizes", "roles", "axes")}
    return Bundle(data["parameter"], steps, **lists)
