"""What a neural graph consists of: sets of neurons, and how tensors are laid out over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.space import Space


@dataclass(frozen=True)
class Structure:
    """The data of a :class:`ngopt.NeuralGraph`, which adds what users do with it.

    Modules that describe a graph (its nodes, its summary, its picture) need no more than this.

    Args:
        spaces: the sets of neurons, by name.
        layouts: the layout of each parameter and of each state buffer, by name.
        aliases: other names of tied parameters, to the name that stands in `layouts`.
        unknown: operations that tracing had no handler for, whose axes were pinned.
        verified: whether each hidden space was confirmed by permuting its neurons.
    """

    spaces: Mapping[str, Space]
    layouts: Mapping[str, Layout]
    aliases: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    verified: bool = False

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

    def neurons(self, spaces: Sequence[str]) -> int:
        """Number of neurons in the product of the given spaces."""
        count = 1
        for name in spaces:
            count *= self.spaces[name].size
        return count
