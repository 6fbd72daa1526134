"""Records of a trace: what is known of each tensor and of the uses of each parameter."""

from dataclasses import dataclass, field

from ngopt.graph.layout import Kind
from ngopt.graph.terms import Atom, Term


@dataclass
class Record:
    """What is known about a tensor.

    Args:
        axes: what each of its axes runs over.
        live: whether it depends on the inputs of the model (it is then an activation).
        sources: names of the parameters it was computed from, if it is not live.
        depth: number of layers between it and the inputs.
        equal_at: version of the tensor at which all its entries were equal; None if never. While
            nothing is written into it, any permutation leaves it unchanged.
    """

    axes: list[Term]
    live: bool
    sources: frozenset[str] = frozenset()
    depth: int = 0
    equal_at: int | None = None


@dataclass
class Use:
    """How a parameter is used.

    Args:
        kind: the kind of layer of its first use.
        depth: number of layers between its first use and the inputs.
        contracted: atoms that products sum over.
        batched: atoms that products share edge by edge.
    """

    kind: Kind = "other"
    depth: int | None = None
    contracted: set[Atom] = field(default_factory=set)
    batched: set[Atom] = field(default_factory=set)
