"""Statistics of a bundle: means over its rows, its columns and all entries."""

from typing import NamedTuple

from torch import Tensor

from ngopt.features.entry_features import Edges


class Products(NamedTuple):
    """Products of entries that are averaged: squares, and gradient times fast momentum."""

    adam: Tensor
    gradient: Tensor
    weight: Tensor
    fast: Tensor
    alignment: Tensor
    square: Tensor

    @classmethod
    def of(cls, edges: Edges) -> "Products":
        """Compute the products of each entry."""
        gradient, fast = edges.gradient, edges.moments.fast
        return cls(
            adam=edges.adam.square(),
            gradient=gradient.square(),
            weight=edges.weight.square(),
            fast=fast.square(),
            alignment=gradient * fast,
            square=edges.moments.square,
        )


class MessageMatrices(NamedTuple):
    """Matrices of messages: arrays averaged over taps, `(group, out, in)`."""

    weight: Tensor
    adam: Tensor
    fast: Tensor

    @classmethod
    def over_taps(cls, *arrays: Tensor) -> "MessageMatrices":
        """Average arrays `(..., group, out, in, tap)` over taps."""
        # A single tap is dropped as a view; the mean would copy the array.
        return cls(*(a.squeeze(-1) if a.shape[-1] == 1 else a.mean(-1) for a in arrays))


MATRICES = len(MessageMatrices._fields)
"""Number of matrices of messages of a bundle."""


class BundleStatistics(NamedTuple):
    """Means over a bundle.

    Args:
        rows: over inputs and taps, `(group, out)` each.
        columns: over outputs and taps, `(group, in)` each.
        groups: of the mean square over each group, `(group,)`.
        whole: over everything, 0-dim each.
        slow: of the square of the slow momentum over everything, 0-dim.
    """

    rows: Products
    columns: Products
    groups: Tensor
    whole: Products
    slow: Tensor

    @classmethod
    def of(cls, edges: Edges) -> "BundleStatistics":
        """Compute the statistics of a bundle."""
        products = Products.of(edges)
        return cls(
            rows=Products(*(product.mean((2, 3)) for product in products)),
            columns=Products(*(product.mean((1, 3)) for product in products)),
            groups=products.square.mean((1, 2, 3)),
            whole=Products(*(product.mean() for product in products)),
            slow=edges.moments.slow.square().mean(),
        )
