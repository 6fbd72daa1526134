"""How many numbers are stored of what is seen of a bundle, until the next look at the model."""

import math
from collections.abc import Sequence

from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.graph.bundle import Bundle

LARGE = 2**16
"""Number of entries of a bundle from which it matters how much is stored of it."""


def thin(bundle: Bundle, width: int) -> bool:
    """Whether a large bundle has fewer entries than the states of its neurons have numbers.

    So have vectors, and matrices of a few columns. Their neurons, each with an entry or some, have
    next to nothing to tell that the entries do not, but would take many times as much memory.
    """
    group, out, into, _ = bundle.shape
    return bundle.numel >= LARGE and width * group * (out + into) > bundle.numel


def count(bundles: Sequence[Bundle], width: int) -> int:
    """How many numbers are stored of bundles, one after the other; see :func:`shapes`."""
    return sum(math.prod(shape) for bundle in bundles for shape in shapes(bundle, width))


def shapes(bundle: Bundle, width: int) -> list[tuple[int, ...]]:
    """Shapes of the numbers that are stored of a bundle, in their order.

    Args:
        bundle: the bundle.
        width: size of a neuron's state; 0 if neurons have none.
    """
    group, out, into, _ = bundle.shape
    neurons = width and not thin(bundle, width)
    states = [(group, out, width), (group, into, width)] if neurons else []
    return [(group, out), (group, into), (), (), (), (TENSOR_FEATURES,), (), (), (), *states]
