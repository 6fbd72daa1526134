"""What is computed of the entries of a bucket at one step."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ngopt.features.entries import Edges
from ngopt.features.moments import FAST, SLOW, SQUARE, Moments, correction
from ngopt.features.rounding import to_bfloat16
from ngopt.features.scale import root_inverse, scaled
from ngopt.features.survey import Matrices, Products
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.plan import Bucket, stacked
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.shards import Shards

MANY = 2**20
"""Number of entries of a bucket from which memory counts more than the number of operations."""


class Given(NamedTuple):
    """What a step is given of parameters, by name, each of the parameter's shape.

    Args:
        weight: the parameters.
        gradient: their gradients.
        fast: stored fast momentum.
        slow: stored slow momentum.
        square: stored mean of squares.
    """

    weight: Mapping[str, Tensor]
    gradient: Mapping[str, Tensor]
    fast: Mapping[str, Tensor]
    slow: Mapping[str, Tensor]
    square: Mapping[str, Tensor]

    def arrays(self, bucket: Bucket) -> "Arrays":
        """Those of a bucket, side by side."""
        return Arrays(*(stacked(bucket, tensors) for tensors in self))


class Arrays(NamedTuple):
    """The same of a bucket, arrays `(runs, members, group, out, in, tap)`."""

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
        base_update: of the rule.
        factors: of the gradients of each bundle, `(runs, bundles)`; 1 by default.
        finite: 0-dim; if it is given and false, gradients count as 0 and moments stay.
    """

    def __init__(
        self,
        counts: Tensor,
        dtype: torch.dtype,
        base_update: BaseUpdate,
        factors: Tensor | None = None,
        finite: Tensor | None = None,
    ) -> None:
        self.counts, self.dtype, self.base_update = counts, dtype, base_update
        self.factors, self.finite = factors, finite
        self._made: dict[str, tuple[Tensor, ...]] = {}

    def trusted(self) -> Tensor:
        """How far corrections count at most, `(runs, bundles)`."""
        return self.base_update.trusted(self.counts).to(self.dtype)

    def shares(self) -> tuple[float | Tensor, ...]:
        """How much of a gradient goes into each of the moments."""
        shares = tuple(1 - decay for decay in (FAST, SLOW, SQUARE))
        if self.finite is None:
            return shares
        finite = self.finite.to(self.dtype)
        return self._once("shares", lambda: tuple(share * finite for share in shares))

    def corrections(self, bucket: Bucket) -> Moments:
        """By what stored moments are divided."""
        decays, exact = (FAST, SLOW, SQUARE), self.counts.to(self.dtype)
        found = self._once("corrections", lambda: tuple(correction(d, exact) for d in decays))
        return Moments(*map(bucket.wide, found))

    def base(self, bucket: Bucket, fast: Tensor, slow: Tensor, gradient: Tensor) -> Tensor:
        """Direction that is to be corrected; see :meth:`BaseUpdate.base`."""
        weights = self._once("mixture", lambda: self.base_update.mixture(self.counts))
        return self.base_update.mixed(fast, slow, gradient, *map(bucket.wide, weights))

    def _once(self, name: str, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What all buckets share is computed for the first of them."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def gradient(self, bucket: Bucket, given: Tensor) -> Tensor:
        """The gradients of a bucket as they are to be taken."""
        gradient = given.to(self.dtype)
        if self.factors is not None:
            gradient = gradient * bucket.wide(self.factors)
        return gradient if self.finite is None else torch.where(self.finite, gradient, 0.0)


class Carries(Protocol):
    """What carries messages along bundles."""

    def products(self, out: Tensor, into: Tensor) -> Sequence[Tensor | None]:
        """See :meth:`Carrying.products`."""


class Carrying:
    """Carries messages along the bundles of a bucket.

    Args:
        bucket: the bucket.
        matrices: `(runs, members, group, matrices, out, in)`.
        members: numbers of the members that these are of, if others have the others; by default
            they are of all.
        shards: those others.
    """

    def __init__(
        self,
        bucket: Bucket,
        matrices: Tensor,
        members: Sequence[int] | None = None,
        shards: Shards | None = None,
    ) -> None:
        self._bucket, self._matrices, self._shards = bucket, matrices, shards
        self._members = slice(None) if members is None else list(members)

    def products(self, out: Tensor, into: Tensor) -> list[Tensor | None]:
        """What outputs and inputs are told.

        Args:
            out: states of the outputs of all bundles, `(runs, outputs, width)`.
            into: of their inputs, `(runs, inputs, width)`.

        Returns:
            Products with the states at the other end, `(runs, lines, matrices, width)`: of outputs,
            then of inputs; None where these are no neurons.
        """
        ends, matrices = self._bucket.members[0].ends, self._matrices
        tell = self._bucket.at_inputs(into), self._bucket.at_outputs(out)
        return [
            self._by_line(each @ states[:, self._members].unsqueeze(3)) if end else None
            for end, each, states in zip(ends, (matrices, matrices.mT), tell, strict=True)
        ]

    def squares(self) -> Tensor:
        """Mean squares of the matrices of each member, `(runs, members, matrices)`."""
        own = self._matrices.square().mean((2, 4, 5))
        return self._of_all(own)

    def _of_all(self, own: Tensor) -> Tensor:
        """What is known of all members, `(runs, members, ...)`."""
        if self._shards is None:
            return own
        every = own.new_zeros(len(own), len(self._bucket.members), *own.shape[2:])
        every[:, self._members] = own
        return self._shards.add(every)

    def _by_line(self, products: Tensor) -> Tensor:
        return self._of_all(products.transpose(3, 4)).flatten(1, 3)


class Surveyed(NamedTuple):
    """Means over all bundles of some buckets.

    Args:
        rows: of products over inputs and taps, `(runs, products, outputs)`.
        columns: over outputs and taps, `(runs, products, inputs)`.
        numbers: over each bundle, `(runs, bundles, products + 2 + matrices)`: of the products, the
            squares of the slow momentum, of the base direction and of the matrices.
        carrying: for one bucket or several after the other, returns what carries messages.
    """

    rows: Tensor
    columns: Tensor
    numbers: Tensor
    carrying: Sequence[Callable[[], Carries]]

    @classmethod
    def joined(cls, parts: Sequence["Surveyed"]) -> "Surveyed":
        """Those of one bucket after the other."""
        rows, columns, numbers, carrying = zip(*parts, strict=True)
        every = list(chain.from_iterable(carrying))
        return cls(torch.cat(rows, 2), torch.cat(columns, 2), torch.cat(numbers, 1), every)


class Scales:
    """Numbers of all bundles that scale what is computed of their entries, `(runs, bundles)`.

    Args:
        squares: mean squares of the fast momentum, the weights and the base direction, `(runs,
            bundles, 3)`.
        trusted: how far corrections count.
        decay: pulls of weights towards 0.

    Attributes:
        base: mean squares of the base direction.
        inverses: one over the roots of the mean squares.
        reach: how far corrections move entries at most.
        pull: what weights are multiplied by in directions.
    """

    def __init__(self, squares: Tensor, trusted: Tensor, decay: Tensor) -> None:
        self.base = squares[..., 2]
        self.inverses = root_inverse(squares).unbind(-1)
        root = self.base * self.inverses[2]
        self.reach, self.pull = root * trusted, root * self.inverses[1] * decay


class Heard(NamedTuple):
    """What the network of entries hears of all bundles beside their entries.

    Args:
        rows: one factor of a rank-one approximation of the mean square, `(runs, outputs)`.
        columns: the other, `(runs, inputs)`.
        context: for each hidden unit, `(runs, bundles, hidden)`.
        out: of output neurons, `(runs, outputs, hidden)`, of the bundles whose neurons have states;
            None without.
        into: of input neurons, `(runs, inputs, hidden)`; None without.
    """

    rows: Tensor
    columns: Tensor
    context: Tensor
    out: Tensor | None
    into: Tensor | None

    def of(self, bucket: Bucket) -> "Heard":
        """What is heard of a bucket.

        Returns:
            `(runs, members, group, out)`, `(runs, members, group, in)`, `(runs, members, hidden)`,
            `(runs, members, group, out, hidden)`, and `(runs, members, group, in, hidden)`.
        """
        rows, columns = bucket.at_outputs(self.rows), bucket.at_inputs(self.columns)
        context = bucket.of(self.context)
        if bucket.thin or self.out is None or self.into is None:
            return Heard(rows, columns, context, None, None)
        states = bucket.at_outputs(self.out), bucket.at_inputs(self.into)
        return Heard(rows, columns, context, *states)


class Corrected(NamedTuple):
    """The corrected directions of a bucket.

    Args:
        direction: not yet of the right size, `(runs, members, group, out, in, tap)`.
        square: its mean square, `(runs, members)`.
        moments: to be stored, of the shape of the direction.
        corrections: raw corrections, of that shape, if the rule is watched.
    """

    direction: Tensor
    square: Tensor
    moments: Moments
    corrections: Tensor | None


class Entries:
    """The entries of a bucket at one step, by operations of torch: differentiable, on any device.

    Args:
        bucket: the bucket.
        given: of its parameters.
        steps: numbers of gradients.
        head: network of the entries.
        block: number of entries whose features are there at once.
    """

    def __init__(
        self,
        bucket: Bucket,
        given: Given,
        steps: Steps,
        head: EntryHead,
        block: int,
    ) -> None:
        self._bucket, self._given, self._steps = bucket, given, steps
        self._head, self._block = head, block
        self._gated: Tensor | None = None
        self._found: tuple[Edges, Moments] | None = None

    def _known(self) -> tuple[Edges, Moments]:
        """What is known of the entries now, and the moments to be stored."""
        if self._found is None:
            self._found = self._compute()
        return self._found

    def _compute(self) -> tuple[Edges, Moments]:
        bucket, steps, given = self._bucket, self._steps, self._given.arrays(self._bucket)
        gradient = steps.gradient(bucket, given.gradient)
        dtype, (fast, slow, square) = steps.dtype, steps.shares()
        new = Moments(
            torch.lerp(given.fast.to(dtype), gradient, fast),
            torch.lerp(given.slow.to(dtype), gradient, slow),
            torch.lerp(given.square.to(dtype), gradient.square(), square),
        )
        after = Moments(*(m.to(old.dtype) for m, old in zip(new, given[2:], strict=True)))
        if given.square.dtype == torch.bfloat16:
            # To the nearest, it would stand still.
            after = after._replace(
                square=to_bfloat16(new.square.float(), bucket.wide(steps.counts))
            )
        pairs = zip(new, steps.corrections(bucket), strict=True)
        moments = Moments(*(moment / part for moment, part in pairs))
        return Edges.of(given.weight.to(dtype), gradient, moments), after

    def survey(self) -> Surveyed:
        """Sum them up; matrices carry messages where neurons have states."""
        edges, bucket = self._known()[0], self._bucket
        rows, columns = _means(Products.of(edges))
        base = self._base()
        over = (2, 3, 4, 5)
        matrices = torch.stack(Matrices.over_taps(edges.weight, edges.adam, edges.moments.fast), 3)
        numbers = [
            *rows.mean((3, 4)),
            edges.moments.slow.square().mean(over),
            base.square().mean(over),
            *matrices.square().mean((2, 4, 5)).unbind(2),
        ]
        rows, columns = (means.flatten(2).transpose(0, 1) for means in (rows, columns))
        carry = [partial(Carrying, bucket, matrices)] if bucket.talks else []
        return Surveyed(rows, columns, torch.stack(numbers, 2), carry)

    def _base(self) -> Tensor:
        edges = self._known()[0]
        return self._steps.base(self._bucket, edges.adam, edges.slow, edges.relative)

    def mixture(self) -> Tensor:
        """What is to be orthogonalized."""
        edges = self._known()[0]
        return self._steps.base(self._bucket, *edges.moments[:2], edges.gradient)

    def _alive(self) -> Tensor:
        return self._steps.base_update.alive(self._known()[0].moments)

    def weighed(self, whole: Tensor) -> Tensor:
        """Mean square, `(runs, members)`, of a direction where there have been gradients.

        It is remembered, to be corrected.

        Args:
            whole: orthogonalized direction, `(runs, members, group, out, in, tap)`.
        """
        self._gated = whole * self._alive()
        return _mean_square(self._gated)

    def corrected(
        self, scales: Scales, heard: Heard, factor: Tensor | None, *, watched: bool
    ) -> Corrected:
        """Correct the base direction.

        Args:
            scales: of all bundles.
            heard: by the network of entries, of this bucket.
            factor: of the direction that was weighed, `(runs, members)`; None for Adam's direction.
            watched: whether to return corrections.
        """
        (edges, after), bucket = self._known(), self._bucket
        if factor is None or self._gated is None:
            base = self._base()
        else:
            base = scaled(self._gated, wide(factor))
        self._gated = None
        inverses = [bucket.wide(inverse) for inverse in scales.inverses]
        alive = self._alive()
        correction = scaled(self._correction(edges, base, heard, inverses), alive)
        direction = torch.addcmul(base, torch.tanh(correction), bucket.wide(scales.reach))
        direction = torch.addcmul(direction, edges.weight * alive, bucket.wide(scales.pull))
        corrections = correction if watched else None
        return Corrected(direction, _mean_square(direction), after, corrections)

    def _correction(
        self, edges: Edges, base: Tensor, heard: Heard, inverses: Sequence[Tensor]
    ) -> Tensor:
        """Raw correction of each entry."""
        bundles = heard.context[:, :, None, None, None, None]
        rows = None if heard.out is None else heard.out[:, :, :, :, None, None]
        columns = None if heard.into is None else heard.into[:, :, :, None, :, None]
        factors = root_inverse(heard.rows[..., None, None] * heard.columns[..., None, :, None])
        fast, weight, own = inverses
        arrays = (edges.adam, edges.slow, edges.relative, edges.moments.fast, factors, edges.weight)

        def answers(part: slice) -> Tensor:
            adam, slow, relative, moment, factor, entry = (_rows_of(a, part) for a in arrays)
            features = [adam, slow, relative, moment * factor, moment * fast, entry * weight]
            features.append(_rows_of(base, part) * own)
            offsets = [bundles]
            if rows is not None and columns is not None:
                offsets += [_rows_of(rows, part), columns]
            answer: Tensor = self._head(torch.stack(features, -1), offsets)
            return answer

        height = base.shape[3]
        few = height if _whole() else max(1, self._block * height // max(1, base.numel()))
        blocks = [answers(slice(at, at + few)) for at in range(0, height, few)]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 3)

    def move(self, direction: Tensor, rate: Tensor, kept: Tensor | None) -> None:
        """Move the weights in place.

        Args:
            direction: of the corrected step; it is overwritten.
            rate: by what it is multiplied, `(runs, members)`.
            kept: share of the weights that is kept, `(runs, members)`; all by default.
        """
        weight, update = self._known()[0].weight, scaled(direction, wide(rate))
        weight = weight if kept is None else weight * wide(kept)
        put(self._bucket, self._given.weight, weight - update)


def put(bucket: Bucket, tensors: Mapping[str, Tensor], arrays: Tensor) -> None:
    """Write the arrays of the members where they are in tensors."""
    places = [member.bundle.unfold(tensors[member.name]) for member in bucket.members]
    pairs = zip(bucket.members, arrays[0], strict=True)
    torch._foreach_copy_(places, [member.bundle.fold(array) for member, array in pairs])


def wide(numbers: Tensor) -> Tensor:
    """Numbers of members, so that they broadcast to arrays."""
    return numbers[..., None, None, None, None]


def _means(products: Products) -> tuple[Tensor, Tensor]:
    """Means over rows and over columns, `(products, runs, members, group, lines)`."""
    if products.square.numel() > MANY:
        rows, columns = (torch.stack([p.mean(o) for p in products]) for o in ((4, 5), (3, 5)))
        return rows, columns
    stack = torch.stack(tuple(products))
    return stack.mean((5, 6)), stack.mean((4, 6))


def _mean_square(arrays: Tensor) -> Tensor:
    """Mean square of each bundle, `(runs, members)`."""
    return arrays.square().mean((2, 3, 4, 5))


def _whole() -> bool:
    """Whether features of all entries have to be there at once."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def _rows_of(tensor: Tensor, part: slice) -> Tensor:
    """Some rows of an array; all, where it is the same for all."""
    return tensor if tensor.shape[3] == 1 else tensor[:, :, :, part]
