"""A small model around an operation, and what tracing says of it."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.permute import permute
from ngopt.graph.trace import trace

ARRANGE: dict[str, Callable[[Tensor], Tensor]] = {
    "last": lambda h: h,  # (2, 4, 12)
    "middle": lambda h: h.transpose(1, 2),  # (2, 12, 4)
    "nested": lambda h: h[:, 0].unflatten(-1, (3, 4)),  # (2, 3, 4): "4 in 3"
    "matrix": lambda h: h[:, 0],  # (2, 12)
    "vector": lambda h: h[0, 0],  # (12,)
    "image": lambda h: h.transpose(1, 2).unflatten(-1, (2, 2)),  # (2, 12, 2, 2)
}
"""Ways to lay out 12 hidden neurons."""


class Between(nn.Module):
    """An operation between a layer of 12 neurons and a layer that reads out every entry.

    Whatever the operation does, the layer after it treats all entries differently, so that it adds
    no symmetry and hides no mistake.
    """

    def __init__(self, operation: Callable[[Tensor], Any], arrangement: str) -> None:
        super().__init__()
        self.operation, self.arrange = operation, ARRANGE[arrangement]
        self.first = nn.Linear(5, 12)
        self.last = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        h = self.arrange(torch.tanh(self.first(x)) + 0.2)
        parts = [part for part in self.parts(self.operation(h)) if part.numel()]
        if not self.last:
            self.last.extend(nn.Linear(p.numel(), 3, dtype=x.dtype) for p in parts)
        pairs = zip(self.last, parts, strict=True)
        return sum(layer(part.reshape(-1).to(x.dtype)) for layer, part in pairs)

    def parts(self, out: Any) -> Iterator[Tensor]:
        for part in tensors(out):
            yield torch.view_as_real(part) if part.is_complex() else part


def words(graph: NeuralGraph) -> str:
    """The hidden spaces: "12", or "3, 4 in 3"."""
    sizes = {space.name: str(space.size) for space in graph.spaces.values()}
    return ", ".join(
        sorted(" in ".join([str(s.size), *map(sizes.get, s.within)]) for s in graph.hidden)
    )


def model_around(operation: Callable[[Tensor], Any], arrangement: str) -> tuple[Between, Tensor]:
    """A model in double precision with weights of its own, and an input for it."""
    model, x = Between(operation, arrangement).double(), torch.randn(2, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        model(x)  # makes the last layers
    return model, x


def traced(operation: Callable[[Tensor], Any], arrangement: str = "last") -> NeuralGraph:
    """The graph of a model around an operation, every space of which survives verification."""
    model, x = model_around(operation, arrangement)
    graph = trace(model, x)
    assert trace(model, x, verify=True).spaces == graph.spaces
    other = copy.deepcopy(model)
    other.load_state_dict(permute(graph, model.state_dict(), 1))
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x), rtol=1e-8, atol=1e-8)
    return graph


def hidden(operation: Callable[[Tensor], Any], arrangement: str = "last") -> str:
    """The hidden spaces of a model around an operation that has a handler."""
    graph = traced(operation, arrangement)
    assert graph.unknown == ()
    return words(graph)
