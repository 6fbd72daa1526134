"""Covariances of large sides, of which products with few directions are known, and their roots."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.rules.layers.inverse_root import (
    LEAST,
    inverse_root,
    inverse_root_and_largest,
    largest_eigenvalue,
)

MIX = 0.01
"""Weight of the rows that directions leave out, among the next directions."""

PASSES = 2
"""Number of times that directions are made orthogonal: once leaves the weakest ones too short."""


class LowRankCovariance(NamedTuple):
    """What is known of a covariance `C`, a running mean of products of lines with lines.

    Args:
        directions: orthonormal columns, `(..., side, rank)`; 0 in the beginning.
        products: `C @ directions`.
        variances: the diagonal of `C`, `(..., side)`.

    Source: other such sketches are in Feinberg et al., "Sketchy: Memory-efficient Adaptive
    Regularization with Frequent Directions", NeurIPS 2023.
    """

    directions: Tensor
    products: Tensor
    variances: Tensor

    def pack(self) -> Tensor:
        """All numbers side by side, `(..., side (2 rank + 1))`."""
        return torch.cat([*(t.flatten(-2) for t in self[:2]), self.variances], -1)

    @classmethod
    def unpack(cls, numbers: Tensor, rank: int) -> "LowRankCovariance":
        """Inverse of :meth:`pack`; views."""
        side = numbers.shape[-1] // (2 * rank + 1)
        matrices = numbers[..., :-side].view(*numbers.shape[:-1], 2, side, rank)
        directions, products = matrices.unbind(-3)
        return cls(directions, products, numbers[..., -side:])

    def turned(self) -> "LowRankCovariance":
        """Return the same covariances with directions nearer to the first eigenvectors.

        It is a step of orthogonal iteration, with some of the rows that directions leave out most.
        Products with new directions follow from those that are known; outside of these, covariances
        count as a multiple of the identity. Tensors have one leading dimension.
        """
        known, products, variances = self
        left_out = variances - (known @ (known.mT @ products) * known).sum(2)
        left_out = left_out.clamp(min=0.0)
        most = left_out.topk(known.shape[2], dim=1)
        rows = torch.zeros_like(known).scatter(
            1, most.indices.unsqueeze(1), MIX * most.values.unsqueeze(1)
        )
        directions = _orthonormal(products + rows)
        shares = known.mT @ directions
        others = directions - known @ shares
        level = left_out.sum(1).view(-1, 1, 1) / max(known.shape[1] - known.shape[2], 1)
        moved = products @ shares + known @ (products.mT @ others) + level * others
        return LowRankCovariance(directions, moved, variances)

    def inverse_root(self, damping: Tensor) -> "LowRankRoot":
        """Return nearly :func:`.inverse_root`.

        Covariances count as `directions @ inner @ directions^T` plus a multiple of the identity,
        about the geometric mean of their other eigenvalues (:func:`geometric_over_mean`). It has no
        derivatives.

        Args:
            damping: as for :func:`.inverse_root`, `(matrices,)`; tensors have one leading
                dimension.
        """
        directions, products, variances = self
        side, rank = directions.shape[1:]
        inner = directions.mT @ products
        inner = (inner + inner.mT) / 2
        largest = largest_eigenvalue(inner)
        inner = inner / largest
        mean = variances.sum(1) / largest.view(-1) - inner.diagonal(dim1=1, dim2=2).sum(1)
        mean = mean.clamp(min=0.0) / max(side - rank, 1)
        tail = mean * geometric_over_mean(side, rank) + damping.to(mean)
        level = tail.rsqrt()
        identity = torch.eye(rank, dtype=inner.dtype, device=inner.device)
        weights = level.view(-1, 1, 1) * identity - inverse_root(inner, tail)
        return LowRankRoot(level, directions @ weights, directions)


class LowRankRoot(NamedTuple):
    """Matrices `level - weighted @ directions^T`.

    Args:
        level: multiple of the identity, `(...)`.
        weighted: `(..., side, rank)`.
        directions: orthonormal columns, `(..., side, rank)`.
    """

    level: Tensor
    weighted: Tensor
    directions: Tensor

    def __matmul__(self, lines: Tensor) -> Tensor:
        """Multiply with lines `(..., side, others)`."""
        return self.level[..., None, None] * lines - self.weighted @ (self.directions.mT @ lines)

    def pack(self) -> Tensor:
        """All numbers but the directions, which the covariance has, `(..., 1 + side rank)`."""
        return torch.cat([self.level.unsqueeze(-1), self.weighted.flatten(-2)], -1)

    @classmethod
    def unpack(cls, numbers: Tensor, directions: Tensor) -> "LowRankRoot":
        """Inverse of :meth:`pack`; views."""
        return cls(numbers[..., 0], numbers[..., 1:].view_as(directions), directions)


def geometric_over_mean(side: int, rank: int) -> float:
    """Geometric mean of all but the first `rank` eigenvalues, in units of their mean.

    It is that of eigenvalues that fall with the square of their number, by integrals for sums.

    >>> [round(geometric_over_mean(side, 64), 2) for side in (64, 256, 784, 4096)]
    [1.0, 0.73, 0.39, 0.1]
    """
    ratio = side / rank
    if ratio == 1:
        return 1.0
    return math.exp(2 - math.log(ratio) * (ratio + 1) / (ratio - 1))


def _orthonormal(columns: Tensor) -> Tensor:
    """Columns of the same span, orthonormal where they are not negligible."""
    columns = columns / columns.norm(dim=(1, 2), keepdim=True).clamp(min=LEAST)
    damping = columns.new_full((len(columns),), 1e-6)
    for _ in range(PASSES):
        root, largest = inverse_root_and_largest(columns.mT @ columns, damping)
        columns = columns @ (root * largest.rsqrt())
    # An iteration of Newton and Schulz corrects what damping has done.
    return 1.5 * columns - 0.5 * (columns @ (columns.mT @ columns))
