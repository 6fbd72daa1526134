"""Networks to be read: the parameters of many models, stacked by architecture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace


@dataclass(frozen=True)
class Stack:
    """Networks of one architecture.

    Args:
        graph: their neural graph.
        parameters: of all of them, by name, `(networks, *shape)`.
        model: a module of this architecture, which runs a network; needed for probes only. Its own
            parameters are never used.
        buffers: state buffers of the networks that the model runs with, such as running means, by
            name, `(networks, *shape)`. The graph may describe them; no encoder reads them.
    """

    graph: NeuralGraph
    parameters: Mapping[str, Tensor]
    model: nn.Module | None = None
    buffers: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        expected = {name: layout.shape for name, layout in self.graph.parameters.items()}
        missing = sorted(set(expected) ^ set(self.parameters))
        if missing:
            raise GraphError(
                f"the graph and the stacked parameters differ in {', '.join(map(repr, missing))}."
                "\n  Give the graph of this architecture: ngopt.trace(model, *inputs)."
            )
        count = len(self)
        for name, tensor in self.parameters.items():
            if tuple(tensor.shape) != (count, *expected[name]):
                raise GraphError(
                    f"`{name}` has shape {tuple(tensor.shape)}, but {count} networks of this graph "
                    f"have {(count, *expected[name])}.\n"
                    "  Stack the parameters of networks of one architecture along a new first axis."
                )

    def __len__(self) -> int:
        first = next(iter(self.parameters.values()), None)
        return 0 if first is None or not first.dim() else len(first)

    def select(self, index: Tensor | slice) -> "Stack":
        """Return some of the networks, by their numbers `(chosen,)` or a slice."""
        buffers = {name: tensor[index] for name, tensor in (self.buffers or {}).items()}
        parameters = {name: tensor[index] for name, tensor in self.parameters.items()}
        return replace(self, parameters=parameters, buffers=buffers)

    def to(self, *args: Any, **kwargs: Any) -> "Stack":
        """Return the same networks elsewhere, or in another dtype; see :meth:`torch.Tensor.to`."""
        return replace(
            self,
            parameters={name: t.to(*args, **kwargs) for name, t in self.parameters.items()},
            buffers={name: t.to(*args, **kwargs) for name, t in (self.buffers or {}).items()},
        )


@dataclass(frozen=True)
class Networks:
    """A batch of networks, of one architecture or of several.

    Networks of one architecture are stacked; different ones stand beside each other, and nothing is
    padded. Encoders answer in the order of the batch.

    Args:
        stacks: the networks, by architecture.
        order: for each network in the order of the stacks, its place in the batch, `(networks,)`;
            as they stand in the stacks by default.
    """

    stacks: tuple[Stack, ...]
    order: Tensor | None = None

    @classmethod
    def stacked(
        cls,
        graph: NeuralGraph,
        parameters: Mapping[str, Tensor],
        model: nn.Module | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> "Networks":
        """Return networks of one architecture; see :class:`Stack` for the arguments."""
        return cls((Stack(graph, parameters, model, buffers),))

    @classmethod
    def from_modules(cls, modules: Iterable[nn.Module], *args: Any, **kwargs: Any) -> "Networks":
        """Stack modules, each architecture of which is traced once.

        Two modules have the same architecture if they print alike and their parameters have the
        same names and shapes.

        Args:
            modules: the networks. They are left as they were; their parameters are copied.
            *args: example inputs of a forward pass, which all of them take.
            **kwargs: more inputs.
        """
        places: dict[tuple[object, ...], list[int]] = {}
        listed = list(modules)
        for place, module in enumerate(listed):
            shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
            places.setdefault((type(module), repr(module), shapes), []).append(place)
        stacks = [_stack([listed[i] for i in found], args, kwargs) for found in places.values()]
        return cls(tuple(stacks), torch.tensor([i for found in places.values() for i in found]))

    def __len__(self) -> int:
        return sum(len(stack) for stack in self.stacks)

    def __iter__(self) -> Iterator[Stack]:
        return iter(self.stacks)

    def in_order(self, rows: Sequence[Tensor]) -> Tensor:
        """Bring what was computed by stacks, `(stack's networks, ...)` each, to the batch's order.

        Returns:
            `(networks, ...)`.
        """
        joined = torch.cat(list(rows))
        if self.order is None:
            return joined
        places = self.order.to(joined.device)
        return torch.empty_like(joined).index_copy(0, places, joined)

    def to(self, *args: Any, **kwargs: Any) -> "Networks":
        """Return the same networks elsewhere, or in another dtype; see :meth:`torch.Tensor.to`."""
        return replace(self, stacks=tuple(stack.to(*args, **kwargs) for stack in self.stacks))


def _stack(modules: Sequence[nn.Module], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Stack:
    graph = trace(modules[0], *args, **kwargs)
    parameters = [dict(module.named_parameters()) for module in modules]
    buffers = [dict(module.named_buffers()) for module in modules]
    return Stack(
        graph,
        {name: torch.stack([p[name].detach() for p in parameters]) for name in graph.parameters},
        modules[0],
        {name: torch.stack([b[name] for b in buffers]) for name in buffers[0]},
    )
