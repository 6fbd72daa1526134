"""One bundle of a parameter at one step, on its way through the default rule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import Matrix, matrices
from ngopt.rules.passes.passes import Passes

NUMBERS = ("step", "evidence")
"""What is kept of a parameter beside its moments."""


class Arrays(NamedTuple):
    """What is known of the entries of a bundle before a step.

    Args:
        weight: entries of the parameter, `(group, out, in, tap)`.
        gradient: their gradient.
        state: `step`, 0-dim, and the arrays of the moments.
    """

    weight: Tensor
    gradient: Tensor
    state: dict[str, Tensor]


class Part(NamedTuple):
    """A bundle at one step.

    Args:
        name: of the parameter.
        layout: of the parameter.
        bundle: the bundle.
        matrix: as matrices whose momentum is orthogonalized, if it has any.
        arrays: its entries.
        passes: over them.
        step: number of gradients so far, with this one, 0-dim.
    """

    name: str
    layout: Layout
    bundle: Bundle
    matrix: Matrix | None
    arrays: Arrays
    passes: Passes
    step: Tensor


def arrays_of(
    layout: Layout, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
) -> Iterator[tuple[Bundle, Matrix | None, Arrays]]:
    """Each bundle of a parameter, as matrices if it has any, and what is known of its entries."""
    tensors = (parameter, gradient, *(state[key] for key in Moments._fields))
    views = zip(*(layout.views(tensor) for tensor in tensors), strict=True)
    found: Sequence[Matrix | None] = matrices(layout) or [None] * len(layout.bundles)
    for bundle, matrix, (weight, slope, *moments) in zip(layout.bundles, found, views, strict=True):
        before = {key: state[key] for key in NUMBERS}
        before.update(zip(Moments._fields, moments, strict=True))
        yield bundle, matrix, Arrays(weight, slope, before)
