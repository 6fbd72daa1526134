"""The neural graph: which axes of which parameters run over the same neurons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle, Role
from ngopt.graph.draw import draw
from ngopt.graph.layout import Layout
from ngopt.graph.nodes import shortest_path
from ngopt.graph.space import Space
from ngopt.graph.structure import Structure
from ngopt.graph.summary import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class NeuralGraph(Structure):
    """A model as a graph of its neurons: nodes are neurons, edges are parameter entries.

    It describes structure only and holds no tensor, so it can be compared, copied, pickled and
    stored (see :mod:`ngopt.graph.plain_data`). Made by :func:`ngopt.trace`, or for lone tensors by
    :meth:`per_tensor`.

    Args:
        spaces: the sets of neurons, by name.
        layouts: the layout of each parameter and of each state buffer, by name.
        aliases: other names of tied parameters, to the name that stands in `layouts`.
        unknown: operations that tracing had no handler for, whose axes were pinned.
        verified: whether each hidden space was confirmed by permuting its neurons.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024.
    """

    @classmethod
    def per_tensor(cls, shapes: Mapping[str, Sequence[int]]) -> "NeuralGraph":
        """Graph of lone tensors: each is a graph by itself, its rows and columns the neurons.

        Axis 0 is `out`, axis 1 `in`, further axes are taps, as in torch's layers.

        Args:
            shapes: shape of each tensor, by name.
        """
        spaces: dict[str, Space] = {}
        layouts: dict[str, Layout] = {}
        for name, shape in shapes.items():
            roles: list[Role] = (["out", "in"] + ["tap"] * len(shape))[: len(shape)]  # type: ignore[assignment]
            factors: list[str | int] = list(shape)
            for axis, role in enumerate(roles):
                if role != "tap":
                    space = Space(f"{name}:{axis}", shape[axis], True, reason="not traced")
                    spaces[space.name] = space
                    factors[axis] = space.name
            bundle = Bundle(
                name, (), tuple(factors), tuple(shape), tuple(roles), tuple(range(len(shape)))
            )
            bundles = (bundle,) if 0 not in shape else ()
            layouts[name] = Layout(name, tuple(shape), bundles)
        return cls(spaces, layouts, {})

    @cached_property
    def shortest_path(self) -> int:
        """Number of layers; see :func:`ngopt.graph.nodes.shortest_path`."""
        return shortest_path(self)

    def summary(self, full: bool = False) -> str:
        """Readable text: spaces, tensors with their axes in words, unknown operations.

        Args:
            full: whether every tensor has its line; by default, repeated blocks are shown once,
                with their number, and tensors of a module with the same axes share a line.
        """
        return summary(self, full)

    def draw(self, ax: "Axes | None" = None, *, full: bool = False) -> "Axes":
        """Draw the graph; see :func:`ngopt.graph.draw.draw`.

        Args:
            ax: matplotlib axes to draw into, by default new ones.
            full: whether to draw every block; by default, repeated ones are drawn once.

        Raises:
            ImportError: if matplotlib is missing.
        """
        return draw(self, ax, full=full)

    def describes(self, name: str) -> bool:
        """Whether the graph has a tensor of this name or, of a tied one, of this other name."""
        return self.aliases.get(name, name) in self.layouts

    def layout(self, name: str) -> Layout:
        """Layout of a parameter, by its name or by another name of the same tied parameter."""
        found = self.layouts.get(self.aliases.get(name, name))
        if found is None:
            known = ", ".join(f"`{n}`" for n in list(self.layouts)[:5])
            raise GraphError(
                f"the graph has no parameter `{name}`; it describes {len(self.layouts)} tensors: "
                f"{known}, ...\n  Trace the model being trained: ngopt.trace(model, *inputs)."
            )
        return found

    def views(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Arrays `(group, out, in, tap)` of each tensor, one per bundle; views where possible."""
        return {name: self.layout(name).views(tensor) for name, tensor in tensors.items()}
