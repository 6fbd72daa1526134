"""Features of the entries of a bundle, each free of the scale of gradient and weight."""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.features.scale import floored, root_inverse

if TYPE_CHECKING:
    from ngopt.features.bundle_statistics import BundleStatistics


class Edges(NamedTuple):
    """What is known about the edges of one bundle, as arrays `(group, out, in, tap)`.

    Args:
        weight: the entries of the parameter.
        gradient: their gradient.
        moments: its bias-corrected moments.
        inverse: one over the root of the mean square.
        adam: the Adam direction, `fast / sqrt(square)`.
        slow: the slow momentum in the same units, `slow / sqrt(square)`.
    """

    weight: Tensor
    gradient: Tensor
    moments: Moments
    inverse: Tensor
    adam: Tensor
    slow: Tensor

    @property
    def relative(self) -> Tensor:
        """The gradient in the same units as the directions."""
        return self.gradient * self.inverse

    @classmethod
    def of(cls, weight: Tensor, gradient: Tensor, moments: Moments) -> "Edges":
        """Complete the arrays of a bundle by its directions."""
        inverse = root_inverse(moments.square)
        adam, slow = moments.fast * inverse, moments.slow * inverse
        return cls(weight, gradient, moments, inverse, adam, slow)


class Entries(NamedTuple):
    """Features of each entry, arrays `(group, out, in, tap)`, of a size of about 1.

    Args:
        adam: the Adam direction.
        slow: slow momentum over the root of the mean square.
        gradient: gradient over the root of the mean square.
        factored: fast momentum over the root of a rank-one approximation of the mean square.
        fast: fast momentum over its own RMS.
        weight: weight over its own RMS.
        base: direction that is to be corrected, over its own RMS.
    """

    adam: Tensor
    slow: Tensor
    gradient: Tensor
    factored: Tensor
    fast: Tensor
    weight: Tensor
    base: Tensor


class Scales(NamedTuple):
    """Mean squares by which entries are divided; each broadcasts to the entries.

    Args:
        rows: one factor of a rank-one approximation of the mean square of the gradient.
        columns: the other.
        fast: of the fast momentum.
        weight: of the weights.
        base: of the direction that is to be corrected.
    """

    rows: Tensor
    columns: Tensor
    fast: Tensor
    weight: Tensor
    base: Tensor

    @classmethod
    def of(cls, statistics: "BundleStatistics", square: Tensor) -> "Scales":
        """The scales of a bundle, from its statistics and the mean square of its base direction."""
        rows = statistics.rows.square / floored(statistics.groups[:, None])
        columns = statistics.columns.square
        means = statistics.whole.fast, statistics.whole.weight, square
        return cls(rows[:, :, None, None], columns[:, None, :, None], *means)


def entry_features(edges: Edges, base: Tensor, scales: Scales) -> Entries:
    """Compute the features of each entry; all are 0 for a zero gradient and weight.

    Args:
        edges: of a bundle.
        base: direction that is to be corrected, of the same shape.
        scales: of the bundle.
    """
    return Entries(
        adam=edges.adam,
        slow=edges.slow,
        gradient=edges.relative,
        factored=edges.moments.fast * root_inverse(scales.rows * scales.columns),
        fast=edges.moments.fast * root_inverse(scales.fast),
        weight=edges.weight * root_inverse(scales.weight),
        base=base * root_inverse(scales.base),
    )
