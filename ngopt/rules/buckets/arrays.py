"""What is known of the entries of a bucket at one step, and what is summed up of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.entries import Edges
from ngopt.features.moments import FAST, SLOW, SQUARE, Moments, correction
from ngopt.features.survey import Matrices, Products
from ngopt.fused.rounding import to_bfloat16
from ngopt.rules.buckets.plan import Bucket
from ngopt.rules.skeleton import Skeleton

MANY = 2**20
"""Number of entries of a bucket from which memory counts more than the number of operations."""


class Given(NamedTuple):
    """The arrays of a bucket before a step, `(runs, members, group, out, in, tap)`.

    Args:
        weight: entries of the parameters.
        gradient: their gradients.
        fast: stored fast momentum.
        slow: stored slow momentum.
        square: stored mean of squares.
    """

    weight: Tensor
    gradient: Tensor
    fast: Tensor
    slow: Tensor
    square: Tensor


class Steps:
    """Numbers of gradients so far, with this one, and what follows from them.

    Args:
        counts: of each bundle, `(runs, bundles)`.
        dtype: in which everything is computed.
        skeleton: of the rule.
        finite: 0-dim; if it is given and false, moments stay.
    """

    def __init__(
        self, counts: Tensor, dtype: torch.dtype, skeleton: Skeleton, finite: Tensor | None = None
    ) -> None:
        self.counts, exact = counts, counts.to(dtype)
        self.skeleton, self._mixture = skeleton, skeleton.mixture(counts)
        self.trusted = skeleton.trusted(counts).to(dtype)
        decays = (FAST, SLOW, SQUARE)
        self._corrections = Moments(*(correction(decay, exact) for decay in decays))
        self.shares: tuple[float | Tensor, ...] = tuple(1 - decay for decay in decays)
        if finite is not None:
            self.shares = tuple(share * finite.to(dtype) for share in self.shares)

    def corrections(self, bucket: Bucket) -> Moments:
        """By what stored moments are divided."""
        return Moments(*map(bucket.wide, self._corrections))

    def base(self, bucket: Bucket, fast: Tensor, slow: Tensor, gradient: Tensor) -> Tensor:
        """Direction that is to be corrected; see :meth:`Skeleton.base`."""
        return self.skeleton.mixed(fast, slow, gradient, *map(bucket.wide, self._mixture))


def advanced(bucket: Bucket, given: Given, steps: Steps) -> tuple[Edges, Moments]:
    """Take the gradients into the moments.

    Args:
        bucket: the bucket.
        given: its arrays; the gradient is in the precision in which everything is computed.
        steps: numbers of gradients.

    Returns:
        What is known of the entries now, and the moments to be stored.
    """
    gradient = given.gradient
    dtype = gradient.dtype
    fast, slow, square = steps.shares
    new = Moments(
        torch.lerp(given.fast.to(dtype), gradient, fast),
        torch.lerp(given.slow.to(dtype), gradient, slow),
        torch.lerp(given.square.to(dtype), gradient.square(), square),
    )
    after = Moments(*(m.to(old.dtype) for m, old in zip(new, given[2:], strict=True)))
    if given.square.dtype == torch.bfloat16:
        # To the nearest, it would stand still.
        after = after._replace(square=to_bfloat16(new.square, bucket.wide(steps.counts)))
    pairs = zip(new, steps.corrections(bucket), strict=True)
    moments = Moments(*(moment / part for moment, part in pairs))
    return Edges.of(given.weight.to(dtype), gradient, moments), after


class Surveyed(NamedTuple):
    """Means over a bucket.

    Args:
        rows: over inputs and taps, `(products, runs, members, group, out)`.
        columns: over outputs and taps, `(products, runs, members, group, in)`.
        numbers: over each bundle, `(runs, members, products + 2 + matrices)`: the products, the
            squares of the slow momentum, of the base direction and of the matrices.
        matrices: what carries messages, `(runs, members, group, matrices, out, in)`; None where
            there are none.
    """

    rows: Products
    columns: Products
    numbers: Tensor
    matrices: Tensor | None


def surveyed(bucket: Bucket, edges: Edges, steps: Steps) -> Surveyed:
    """Sum up a bucket; matrices carry messages where its neurons have states."""
    rows, columns = _means(Products.of(edges))
    base = steps.base(bucket, edges.adam, edges.slow, edges.relative)
    over = (2, 3, 4, 5)
    matrices = torch.stack(Matrices.over_taps(edges.weight, edges.adam, edges.moments.fast), 3)
    numbers = [
        *torch.stack(tuple(rows)).mean((3, 4)),
        edges.moments.slow.square().mean(over),
        base.square().mean(over),
        *matrices.square().mean((2, 4, 5)).unbind(2),
    ]
    return Surveyed(rows, columns, torch.stack(numbers, 2), None if bucket.thin else matrices)


def _means(products: Products) -> tuple[Products, Products]:
    if products.square.numel() > MANY:
        rows, columns = ([p.mean(over) for p in products] for over in ((4, 5), (3, 5)))
        return Products(*rows), Products(*columns)
    stack = torch.stack(tuple(products))
    return Products(*stack.mean((5, 6)).unbind()), Products(*stack.mean((4, 6)).unbind())
