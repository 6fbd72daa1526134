"""The neural graph: which axes of which parameters run over the same neurons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from ngopt.errors import GraphError
from ngopt.graph.bundle import Bundle, Role
from ngopt.graph.layout import Layout
from ngopt.graph.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class NeuralGraph:
    """A model as a graph of its neurons: nodes are neurons, edges are parameter entries.

    It describes structure only and holds no tensor, so it can be compared, copied, pickled and
    stored (see :mod:`ngopt.graph.plain`). Made by :func:`ngopt.trace`, or for lone tensors by
    :meth:`per_tensor`.

    Args:
        spaces: the sets of neurons, by name.
        layouts: the layout of each parameter and of each state buffer, by name.
        aliases: other names of tied parameters, to the name that stands in `layouts`.
        unknown: operations that tracing had no rule for, whose axes were pinned.
        verified: whether each hidden space was confirmed by permuting its neurons.

    Source: Kofinas et al., "Graph Neural Networks for Learning Equivariant Representations of
    Neural Networks", ICLR 2024.
    """

    spaces: Mapping[str, Space]
    layouts: Mapping[str, Layout]
    aliases: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    verified: bool = False

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
    def parameters(self) -> dict[str, Layout]:
        """Layouts of the parameters, without state buffers."""
        return {name: layout for name, layout in self.layouts.items() if not layout.buffer}

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """All bundles of all parameters."""
        return tuple(b for layout in self.parameters.values() for b in layout.bundles)

    @cached_property
    def hidden(self) -> tuple[Space, ...]:
        """The spaces whose neurons can be permuted."""
        return tuple(space for space in self.spaces.values() if not space.pinned)

    @cached_property
    def shortest_path(self) -> int:
        """Number of layers; see :func:`ngopt.graph.shortest_path.shortest_path`."""
        from ngopt.graph.shortest_path import shortest_path

        return shortest_path(self)

    def neurons(self, spaces: Sequence[str]) -> int:
        """Number of neurons in the product of the given spaces."""
        count = 1
        for name in spaces:
            count *= self.spaces[name].size
        return count

    def summary(self) -> str:
        """Readable text: spaces, parameters with their axes in words, unknown operations."""
        from ngopt.graph.summary import summary  # these describe graphs, so they import this module

        return summary(self)

    def draw(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the graph; see :func:`ngopt.graph.draw.draw`."""
        from ngopt.graph.draw import draw

        return draw(self, ax)

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
