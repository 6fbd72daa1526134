"""Features of the entries of a bundle, each free of the scale of gradient and weight."""

from typing import NamedTuple

from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.features.scale import EPS, root_inverse, unit


class Edges(NamedTuple):
    """What is known about the edges of one bundle, as arrays `(group, out, in, tap)`.

    Args:
        weight: the entries of the parameter.
        gradient: their gradient.
        moments: its bias-corrected moments.
        adam: the Adam direction, `fast / sqrt(square)`.
    """

    weight: Tensor
    gradient: Tensor
    moments: Moments
    adam: Tensor

    @classmethod
    def of(cls, weight: Tensor, gradient: Tensor, moments: Moments) -> "Edges":
        """Complete the arrays of a bundle by the Adam direction."""
        return cls(weight, gradient, moments, moments.fast * root_inverse(moments.square))


class Entries(NamedTuple):
    """Features of each entry, as arrays `(group, out, in, tap)`.

    The first three are not normalised: their size tells the signal from the noise.

    Args:
        adam: fast momentum over the root of the mean square: the Adam direction.
        slow: slow momentum over the same.
        gradient: gradient over the same.
        factored: fast momentum over the root of the mean square as its row and column means
            tell it (Shazeer and Stern, "Adafactor", ICML 2018).
        fast: fast momentum over its RMS in the whole bundle.
        weight: weight over its RMS in the whole bundle.
    """

    adam: Tensor
    slow: Tensor
    gradient: Tensor
    factored: Tensor
    fast: Tensor
    weight: Tensor


def entry_features(edges: Edges) -> Entries:
    """Compute the features of each entry of a bundle; all are 0 for a zero gradient and weight."""
    moments = edges.moments
    inverse = root_inverse(moments.square)
    return Entries(
        adam=edges.adam,
        slow=moments.slow * inverse,
        gradient=edges.gradient * inverse,
        factored=moments.fast * root_inverse(_factored(moments.square)),
        fast=unit(moments.fast),
        weight=unit(edges.weight),
    )


def _factored(square: Tensor) -> Tensor:
    """Rank-one approximation of an array `(group, out, in, tap)`, per group and over taps."""
    rows = square.mean((2, 3), keepdim=True)
    columns = square.mean((1, 3), keepdim=True)
    total = square.mean((1, 2, 3), keepdim=True)
    return rows / (total + EPS**2) * columns
