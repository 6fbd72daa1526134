"""Whitening: momenta of bundles, multiplied by inverse roots of the covariances of gradients."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ngopt.backends.dispatch import can_be_read, minimizes_operations
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import matrices
from ngopt.rules.base_update import BaseUpdate, inverse_norms
from ngopt.rules.layers.inverse_root import inverse_root
from ngopt.rules.refresh_schedule import is_root_step

if TYPE_CHECKING:
    from ngopt.rules.buckets.bucket import Bucket
    from ngopt.rules.rule import State

COVARIANCES, ROOTS = "covariances", "roots"
"""Names in the state of a parameter: of running means of products of its gradients, and of their
inverse roots. Both are flat, bundle by bundle, side by side."""

LARGE = 256
"""Size from which the roots of a side are computed anew less often."""

SIDES = (1, 2, 3)
"""Dimensions of a bundle: outputs, inputs and taps. Those of size 1 have no covariances."""


def is_whitened(layout: Layout, base_update: BaseUpdate) -> bool:
    """Whether the bundles of a parameter are whitened, and not orthogonalized or Adam's."""
    found = matrices(layout) if base_update.orthogonal else []
    return bool(found) and all(
        "in" in bundle.roles and max(bundle.shape[1:]) <= base_update.whitening_limit
        for bundle in layout.bundles
    )


def whitening_size(layout: Layout, base_update: BaseUpdate) -> int:
    """Number of covariances that are kept for a parameter."""
    if not is_whitened(layout, base_update):
        return 0
    return sum(_size(bundle, side) for bundle in layout.bundles for side in SIDES)


def place_of(layout: Layout, number: int, side: int) -> int:
    """Where the covariances of a side of a bundle begin among those of its parameter."""
    before = sum(_size(bundle, s) for bundle in layout.bundles[:number] for s in SIDES)
    return before + sum(_size(layout.bundles[number], s) for s in SIDES if s < side)


def _size(bundle: Bundle, side: int) -> int:
    size = bundle.shape[side]
    return bundle.shape[0] * size**2 if size > 1 else 0


def covariances_fit(state: "State", sizes: Mapping[str, int]) -> bool:
    """Whether the state of each parameter holds as many covariances as the graph asks for.

    Args:
        state: by name of the parameter.
        sizes: number of covariances by name.
    """
    return all(
        state[name][key].shape[-1] == size
        for name, size in sizes.items()
        for key in (COVARIANCES, ROOTS)
    )


def reset_misfits(state: "State", sizes: Mapping[str, int]) -> None:
    """Replace covariances that belong to another graph by zeros; arguments as above."""
    if covariances_fit(state, sizes):
        return
    for name, size in sizes.items():
        for key in (COVARIANCES, ROOTS):
            old = state[name][key]
            if old.shape[-1] != size:
                state[name][key] = old.new_zeros(*old.shape[:-1], size)


class Whitening:
    """Whitens the momenta of a step, and updates the covariances of its gradients.

    Args:
        base_update: of the rule.
        counts: number of gradients of each bundle so far, `(runs, bundles)`.
        state: by name of the parameter; covariances and roots in it are overwritten.
        refresh: whether to compute the roots anew; of sides of :data:`LARGE` and more only at some
            refreshes (:func:`.is_root_step`), unless `counts` cannot be read, as in CUDA graphs.
        every: number of steps between refreshes, in the beginning.
        finite: 0-dim; if it is given and false, covariances stay.

    Source: Gupta et al., "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML 2018; with
    the power -1/2 for each side: Morwani et al., "A New Perspective on Shampoo's Preconditioner",
    ICLR 2025.
    """

    def __init__(
        self,
        base_update: BaseUpdate,
        counts: Tensor,
        state: "State",
        refresh: bool,
        every: int,
        finite: Tensor | None = None,
    ) -> None:
        self._base_update, self._counts, self._state = base_update, counts, state
        self.refresh, self._every, self._finite = refresh, every, finite

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
                lines = _lines(whole, side)
                self._take_in(bucket, members, side, lines @ lines.mT)
                if self.refresh:
                    self.compute_roots(bucket, members, side)
                roots = torch.stack([*self._views(ROOTS, bucket, members, side)], -4)
            lines = _lines(momenta, side)
            lead = momenta.shape[:3]
            product = roots.to(lines).view(*lead, *roots.shape[-2:]) @ lines
            momenta = _arrays(product, side, momenta.shape)
        return self._base_update.orthogonalized_whitened(momenta.flatten(-2)).view(momenta.shape)

    def _take_in(
        self, bucket: "Bucket", members: Sequence[int], side: int, products: Tensor
    ) -> None:
        """Take products of gradients into the covariances of a side.

        Args:
            bucket: of the bundles.
            members: indices of some of its members.
            side: one of :data:`SIDES`.
            products: of gradients, `(runs, members, group, size, size)`.
        """
        covariances = [*self._views(COVARIANCES, bucket, members, side)]
        products = products.to(covariances[0])
        if self._finite is not None:
            before = torch.stack(covariances, -4).view_as(products)
            products = torch.where(self._finite, products, before)
        pairs = zip(products.unbind(1), covariances, strict=True)
        new = [product.reshape(old.shape) for product, old in pairs]
        share = 1 - self._base_update.whitening_decay
        if minimizes_operations(covariances):
            torch._foreach_lerp_(covariances, new, share)
        else:
            for old, product in zip(covariances, new, strict=True):
                old.copy_(torch.lerp(old, product, share))

    def compute_roots(self, bucket: "Bucket", members: Sequence[int], side: int) -> None:
        """Compute the roots of the covariances of a side, if they are due; arguments as above."""
        counts = self._counts[:, [bucket.start + number for number in members]]
        places = [*self._views(ROOTS, bucket, members, side)]
        if bucket.shape[side] >= LARGE and not self._are_due(counts, places):
            return
        stacked = torch.stack([*self._views(COVARIANCES, bucket, members, side)], -4)
        groups, size = stacked.shape[-3:-1]
        lines = math.prod(bucket.shape[1:]) // size
        damping = self._base_update.damping_at(counts, size, lines)
        damping = damping.reshape(-1).repeat_interleave(groups)
        found = inverse_root(stacked.reshape(-1, size, size), damping).view(stacked.shape)
        if self._finite is not None:
            found = torch.where(self._finite, found, torch.stack(places, -4))
        if minimizes_operations(places):
            torch._foreach_copy_(places, found.unbind(-4))
        else:
            for place, root in zip(places, found.unbind(-4), strict=True):
                place.copy_(root)

    def _are_due(self, counts: Tensor, roots: Sequence[Tensor]) -> bool:
        """Whether any of these roots, after these numbers of gradients, are to be computed anew."""
        if not can_be_read(counts):
            return True
        steps = {int(count) - 1 for count in counts.flatten().tolist()}
        if any(is_root_step(step, self._every) for step in steps):
            return True
        # Those that were never computed are 0.
        return bool(torch.stack([(root[..., 0, 0] == 0).any() for root in roots]).any())

    def tensors(self, key: str, names: Sequence[str]) -> list[Tensor]:
        """The covariances or the roots of parameters, `([runs], numbers)`."""
        return [self._state[name][key] for name in names]

    def _views(
        self, key: str, bucket: "Bucket", members: Sequence[int], side: int
    ) -> Iterator[Tensor]:
        """The matrices of a side of each member in the state, `([runs], group, size, size)`."""
        groups, size = bucket.shape[0], bucket.shape[side]
        for number in members:
            member = bucket.members[number]
            tensor = self._state[member.name][key]
            begin = place_of(member.layout, member.number, side)
            part = tensor[..., begin : begin + groups * size**2]
            yield part.view(*tensor.shape[:-1], groups, size, size)


def sides(bucket: "Bucket") -> list[int]:
    """Those of :data:`SIDES` that have covariances."""
    return [side for side in SIDES if bucket.shape[side] > 1]


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
