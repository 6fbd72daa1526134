"""Whitening: momenta of bundles, multiplied by inverse roots of the covariances of gradients."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.dispatch import minimizes_operations
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import matrices
from ngopt.rules.base_update import BaseUpdate, inverse_norms
from ngopt.rules.layers.inverse_root import inverse_root
from ngopt.rules.layers.low_rank import LowRankCovariance, LowRankRoot

if TYPE_CHECKING:
    from ngopt.rules.buckets.bucket import Bucket
    from ngopt.rules.rule import State

COVARIANCES, ROOTS = "covariances", "roots"
"""Names in the state of a parameter: of running means of products of its gradients, and of their
inverse roots. Both are flat, bundle by bundle, side by side; those of large sides are packed
:class:`.LowRankCovariance` and :class:`.LowRankRoot`."""

LARGE = 256
"""Size from which covariances of a side are of low rank."""

RANK = 64
"""That rank."""

SIDES = (1, 2, 3)
"""Dimensions of a bundle: outputs, inputs and taps. Those of size 1 have no covariances."""


def is_whitened(layout: Layout, base_update: BaseUpdate) -> bool:
    """Whether the bundles of a parameter are whitened, and not orthogonalized or Adam's."""
    found = matrices(layout) if base_update.orthogonal else []
    return bool(found) and all(
        "in" in bundle.roles and max(bundle.shape[1:]) <= base_update.whitening_limit
        for bundle in layout.bundles
    )


def rank_of(size: int) -> int:
    """Rank of the covariances of a side of a size; 0 if they are whole matrices."""
    return min(size, RANK) if size >= LARGE else 0


def whitening_sizes(layout: Layout, base_update: BaseUpdate) -> dict[str, int]:
    """How many numbers of each kind are kept for a parameter."""
    if not is_whitened(layout, base_update):
        return dict.fromkeys((COVARIANCES, ROOTS), 0)
    return {
        key: sum(_size(key, bundle, side) for bundle in layout.bundles for side in SIDES)
        for key in (COVARIANCES, ROOTS)
    }


def place_of(key: str, layout: Layout, number: int, side: int) -> int:
    """Where the covariances or roots of a side of a bundle begin among those of its parameter."""
    before = sum(_size(key, bundle, s) for bundle in layout.bundles[:number] for s in SIDES)
    return before + sum(_size(key, layout.bundles[number], s) for s in SIDES if s < side)


def size_of(key: str, size: int) -> int:
    """How many numbers the covariances, or the roots, of a side of a size are."""
    rank = rank_of(size)
    if rank:
        return size * (2 * rank + 1) if key == COVARIANCES else 1 + size * rank
    return size**2 if size > 1 else 0


def _size(key: str, bundle: Bundle, side: int) -> int:
    return bundle.shape[0] * size_of(key, bundle.shape[side])


Sizes = Mapping[str, Mapping[str, int]]
"""Of each parameter, by name, how many numbers of each kind the graph asks for."""


def covariances_fit(state: "State", sizes: Sizes) -> bool:
    """Whether the state of each parameter holds as many covariances and roots as it should."""
    found = [state[name][key].shape[-1] for name, own in sizes.items() for key in own]
    return found == [size for own in sizes.values() for size in own.values()]


def reset_misfits(state: "State", sizes: Sizes) -> None:
    """Replace covariances that belong to another graph by zeros."""
    if covariances_fit(state, sizes):
        return
    for name, own in sizes.items():
        for key, size in own.items():
            old = state[name][key]
            if old.shape[-1] != size:
                state[name][key] = old.new_zeros(*old.shape[:-1], size)


class Whitening:
    """Whitens the momenta of a step, and updates the covariances of its gradients.

    Args:
        base_update: of the rule.
        counts: returns the number of gradients of each bundle so far, `(runs, bundles)`.
        state: by name of the parameter; covariances and roots in it are overwritten.
        refresh: whether to compute the roots anew.
        finite: 0-dim; if it is given and false, covariances stay.

    Source: Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018; with
    the power -1/2 for each side: Morwani et al., "A New Perspective on Shampoo's Preconditioner",
    ICLR 2025.
    """

    def __init__(
        self,
        base_update: BaseUpdate,
        counts: Callable[[], Tensor],
        state: "State",
        refresh: bool,
        finite: Tensor | None = None,
    ) -> None:
        self._base_update, self._counts, self._state = base_update, counts, state
        self.refresh, self._finite = refresh, finite

    def directions(
        self, bucket: "Bucket", members: Sequence[int], momenta: Tensor, gradients: Tensor
    ) -> Tensor:
        """Return whitened momenta, not yet of the right size.

        Args:
            bucket: of the bundles.
            members: indices of some of its members.
            momenta: of these, `(runs, members, group, out, in, tap)`.
            gradients: of the same shape, finite.
        """
        momenta = _normalized(momenta)
        with torch.no_grad():
            whole = _normalized(gradients)
        for side in sides(bucket):
            with torch.no_grad():
                self._take_in(bucket, members, side, _lines(whole, side))
                if self.refresh:
                    self.compute_roots(bucket, members, side)
            lines = _lines(momenta, side)
            product = self._multiplied(bucket, members, side, lines)
            momenta = _arrays(product, side, momenta.shape)
        return self._base_update.orthogonalized_whitened(momenta.flatten(-2)).view(momenta.shape)

    def _take_in(self, bucket: "Bucket", members: Sequence[int], side: int, lines: Tensor) -> None:
        """Take gradients into the covariances of a side.

        Args:
            bucket: of the bundles.
            members: indices of some of its members.
            side: one of :data:`SIDES`.
            lines: of normalized gradients, `(runs, members, group, size, others)`.
        """
        places = [*self._views(COVARIANCES, bucket, members, side)]
        lines = lines.to(places[0])
        rank = rank_of(bucket.shape[side])
        if rank:
            directions = self._directions(bucket, members, side)
            products = lines @ (lines.mT @ directions)
            new = torch.cat([products.flatten(-2), lines.square().sum(-1)], -1)
            places = [place[..., -new.shape[-1] :] for place in places]
        else:
            new = (lines @ lines.mT).flatten(-2)
        if self._finite is not None:
            new = torch.where(self._finite, new, torch.stack(places, -3).view_as(new))
        own = _by_member(new, places)
        share = 1 - self._base_update.whitening_decay
        if minimizes_operations(places):
            torch._foreach_lerp_(places, own, share)
        else:
            for place, numbers in zip(places, own, strict=True):
                place.copy_(torch.lerp(place, numbers, share))

    def _multiplied(
        self, bucket: "Bucket", members: Sequence[int], side: int, lines: Tensor
    ) -> Tensor:
        """Lines of momenta, multiplied by the roots of a side; arguments as above."""
        roots = self._stacked(ROOTS, bucket, members, side).to(lines)
        rank = rank_of(bucket.shape[side])
        if not rank:
            return roots.view(*lines.shape[:-1], -1) @ lines
        directions = self._directions(bucket, members, side).to(lines)
        return LowRankRoot.unpack(roots, directions) @ lines

    def compute_roots(self, bucket: "Bucket", members: Sequence[int], side: int) -> None:
        """Compute the roots of the covariances of a side; arguments as above."""
        stacked = self._stacked(COVARIANCES, bucket, members, side)
        groups, size = bucket.shape[0], bucket.shape[side]
        counts = self._counts()[:, [bucket.start + number for number in members]]
        damping = self._base_update.damping_at(counts, size, math.prod(bucket.shape[1:]) // size)
        damping = damping.reshape(-1).repeat_interleave(groups)
        rank = rank_of(size)
        if rank:
            covariance = LowRankCovariance.unpack(stacked.flatten(0, 2), rank).turned()
            root = covariance.inverse_root(damping).pack()
            found = {COVARIANCES: covariance.pack(), ROOTS: root}
        else:
            found = {ROOTS: inverse_root(stacked.view(-1, size, size), damping)}
        for key, numbers in found.items():
            places = [*self._views(key, bucket, members, side)]
            new = numbers.view(*stacked.shape[:-1], -1)
            if self._finite is not None:
                new = torch.where(self._finite, new, self._stacked(key, bucket, members, side))
            own = _by_member(new, places)
            if minimizes_operations(places):
                torch._foreach_copy_(places, own)
            else:
                for place, changed in zip(places, own, strict=True):
                    place.copy_(changed)

    def tensors(self, key: str, names: Sequence[str]) -> list[Tensor]:
        """The covariances or the roots of parameters, `([runs], numbers)`."""
        return [self._state[name][key] for name in names]

    def _views(
        self, key: str, bucket: "Bucket", members: Sequence[int], side: int
    ) -> Iterator[Tensor]:
        """Covariances or roots of a side of each member, `([runs], group, numbers)`; views."""
        groups, size = bucket.shape[0], size_of(key, bucket.shape[side])
        for number in members:
            member = bucket.members[number]
            tensor = self._state[member.name][key]
            begin = place_of(key, member.layout, member.number, side)
            part = tensor[..., begin : begin + groups * size]
            yield part.view(*tensor.shape[:-1], groups, size)

    def _stacked(self, key: str, bucket: "Bucket", members: Sequence[int], side: int) -> Tensor:
        """The same of all members, `(runs, members, group, numbers)`."""
        found = torch.stack([*self._views(key, bucket, members, side)], -3)
        return found if found.dim() == 4 else found.unsqueeze(0)

    def _directions(self, bucket: "Bucket", members: Sequence[int], side: int) -> Tensor:
        """Those of covariances of low rank, `(runs, members, group, size, rank)`."""
        size = bucket.shape[side]
        rank = rank_of(size)
        views = self._views(COVARIANCES, bucket, members, side)
        unpacked = (LowRankCovariance.unpack(view, rank).directions for view in views)
        found = torch.stack([*unpacked], -4)
        return found if found.dim() == 5 else found.unsqueeze(0)


def sides(bucket: "Bucket") -> list[int]:
    """Those of :data:`SIDES` that have covariances."""
    return [side for side in SIDES if bucket.shape[side] > 1]


def _by_member(numbers: Tensor, places: Sequence[Tensor]) -> list[Tensor]:
    """Numbers `(runs, members, group, numbers)`, each member's of the shape of its place."""
    return [own.reshape(at.shape) for own, at in zip(numbers.unbind(1), places, strict=True)]


def _normalized(arrays: Tensor) -> Tensor:
    """Bring arrays `(..., out, in, tap)` to a norm of 1."""
    flat = arrays.flatten(0, -4).flatten(2)
    return arrays * inverse_norms(flat).view(*arrays.shape[:-3], 1, 1, 1)


def _lines(arrays: Tensor, side: int) -> Tensor:
    """Arrays `(..., out, in, tap)` as lines of a side, `(..., size, others)`."""
    return arrays.movedim(side - 4, -3).flatten(-2)


def _arrays(lines: Tensor, side: int, shape: Sequence[int]) -> Tensor:
    """Inverse of :func:`_lines`, for arrays of a shape."""
    others = [shape[s - 4] for s in SIDES if s != side]
    return lines.reshape(*lines.shape[:-1], *others).movedim(-3, side - 4)
