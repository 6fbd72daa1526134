"""The entries of a bucket in one step: moments, statistics and corrected directions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.features.bundle_statistics import MessageMatrices, Products
from ngopt.features.entry_features import Edges
from ngopt.features.moments import FAST, SLOW, SQUARE, Moments, correction
from ngopt.features.rounding import to_bfloat16
from ngopt.features.scale import root_inverse, scaled
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.bucket import Bucket, stacked
from ngopt.rules.buckets.messages import BucketMessages, MessageProducts
from ngopt.rules.layers.entry_head import EntryHead

MANY = 2**20
"""Number of entries of a bucket above which saving memory beats saving operations."""


class StepTensors(NamedTuple):
    """Tensors of a step by name of the parameter, each of the parameter's shape.

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

    def arrays(self, bucket: Bucket) -> "BucketArrays":
        """Stack the tensors of a bucket."""
        return BucketArrays(*(stacked(bucket, tensors) for tensors in self))


class BucketArrays(NamedTuple):
    """The same for a bucket, stacked, `(runs, members, group, out, in, tap)`."""

    weight: Tensor
    gradient: Tensor
    fast: Tensor
    slow: Tensor
    square: Tensor


class StepCounts:
    """Numbers of gradients so far, this one included, and what depends on them alone.

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
        self._made: dict[str, tuple[Any, ...]] = {}

    def trusted(self) -> Tensor:
        """How far corrections count at most, `(runs, bundles)`."""
        return self.base_update.trusted(self.counts).to(self.dtype)

    def shares(self, bucket: Bucket) -> Sequence[float | Tensor]:
        """Weight of the gradient in the update of each moment."""
        fast, slow, square = self._once("shares", self._shares)
        if self.base_update.slow_power:
            slow = bucket.broadcast(slow)
        return fast, slow, square

    def _shares(self) -> tuple[Any, ...]:
        slow = self.base_update.window.share(self.counts.to(self.dtype))
        shares = (1 - FAST, slow, 1 - SQUARE)
        if self.finite is None:
            return shares
        finite = self.finite.to(self.dtype)
        return tuple(share * finite for share in shares)

    def corrections(self, bucket: Bucket) -> Moments:
        """Bias corrections that stored moments are divided by."""
        decays, exact = (FAST, SLOW, SQUARE), self.counts.to(self.dtype)
        found = self._once("corrections", lambda: tuple(correction(d, exact) for d in decays))
        return Moments(*map(bucket.broadcast, found))

    def base(
        self,
        bucket: Bucket,
        fast: Tensor,
        slow: Tensor,
        gradient: Tensor,
        slow_factors: Tensor | None = None,
    ) -> Tensor:
        """Direction that is to be corrected; see :meth:`BaseUpdate.base`."""
        weight, nesterov = self._once("mixture", lambda: self.base_update.mixture(self.counts))
        if slow_factors is not None:
            weight = weight * slow_factors
        given = map(bucket.broadcast, (weight, nesterov))
        return self.base_update.mixed(fast, slow, gradient, *given)

    def _once(self, name: str, make: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Compute what all buckets share only once."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def gradient(self, bucket: Bucket, given: Tensor) -> Tensor:
        """The gradients of a bucket, scaled, and 0 if any is not finite."""
        gradient = given.to(self.dtype)
        if self.factors is not None:
            gradient = gradient * bucket.broadcast(self.factors)
        return gradient if self.finite is None else torch.where(self.finite, gradient, 0.0)


class BucketStatistics(NamedTuple):
    """Means over all bundles of some buckets, and what computes messages along them.

    Args:
        rows: of products over inputs and taps, `(runs, products, outputs)`.
        columns: over outputs and taps, `(runs, products, inputs)`.
        numbers: over each bundle, `(runs, bundles, products + 2 + matrices)`: of the products, the
            squares of the slow momentum, of the base direction and of the matrices.
        messages: functions that return what computes messages, for one bucket or several.
    """

    rows: Tensor
    columns: Tensor
    numbers: Tensor
    messages: Sequence[Callable[[], MessageProducts]]

    @classmethod
    def concatenate(cls, parts: Sequence["BucketStatistics"]) -> "BucketStatistics":
        """Concatenate the statistics of one bucket after the other."""
        rows, columns, numbers, messages = zip(*parts, strict=True)
        every = list(chain.from_iterable(messages))
        return cls(torch.cat(rows, 2), torch.cat(columns, 2), torch.cat(numbers, 1), every)


class UpdateScales:
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


class HeadInputs(NamedTuple):
    """Inputs of the entry head besides features of entries.

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

    def of(self, bucket: Bucket) -> "HeadInputs":
        """Select the inputs of a bucket.

        Returns:
            `(runs, members, group, out)`, `(runs, members, group, in)`, `(runs, members, hidden)`,
            `(runs, members, group, out, hidden)`, and `(runs, members, group, in, hidden)`.
        """
        rows, columns = bucket.at_outputs(self.rows), bucket.at_inputs(self.columns)
        context = bucket.select(self.context)
        if bucket.stateless or self.out is None or self.into is None:
            return HeadInputs(rows, columns, context, None, None)
        states = bucket.at_outputs(self.out), bucket.at_inputs(self.into)
        return HeadInputs(rows, columns, context, *states)


class CorrectedDirections(NamedTuple):
    """The corrected directions of a bucket.

    Args:
        direction: not yet of the right size, `(runs, members, group, out, in, tap)`.
        square: its mean square, `(runs, members)`.
        moments: to be stored, of the shape of the direction.
        corrections: raw corrections, of that shape, for diagnostics; else None.
    """

    direction: Tensor
    square: Tensor
    moments: Moments
    corrections: Tensor | None


class BucketEntries:
    """The entries of a bucket at one step, by operations of torch: differentiable, on any device.

    Args:
        bucket: the bucket.
        given: of its parameters.
        steps: numbers of gradients.
        head: network of the entries.
        block: number of entries whose features are in memory at once.
    """

    def __init__(
        self,
        bucket: Bucket,
        given: StepTensors,
        steps: StepCounts,
        head: EntryHead,
        block: int,
    ) -> None:
        self._bucket, self._given, self._step_counts = bucket, given, steps
        self._head, self._block = head, block
        self._gated: Tensor | None = None
        self._computed: tuple[Edges, Moments] | None = None

    def _edges_and_new_moments(self) -> tuple[Edges, Moments]:
        """The entries with updated moments, and the moments to be stored."""
        if self._computed is None:
            self._computed = self._edges_and_moments()
        return self._computed

    def _edges_and_moments(self) -> tuple[Edges, Moments]:
        bucket, steps, given = self._bucket, self._step_counts, self._given.arrays(self._bucket)
        gradient = steps.gradient(bucket, given.gradient)
        dtype, (fast, slow, square) = steps.dtype, steps.shares(bucket)
        new = Moments(
            torch.lerp(given.fast.to(dtype), gradient, fast),
            torch.lerp(given.slow.to(dtype), gradient, slow),
            torch.lerp(given.square.to(dtype), gradient.square(), square),
        )
        after = Moments(*(m.to(old.dtype) for m, old in zip(new, given[2:], strict=True)))
        if given.square.dtype == torch.bfloat16:
            # Rounded to the nearest, it would stand still.
            after = after._replace(
                square=to_bfloat16(new.square.float(), bucket.broadcast(steps.counts))
            )
        pairs = zip(new, steps.corrections(bucket), strict=True)
        moments = Moments(*(moment / part for moment, part in pairs))
        return Edges.of(given.weight.to(dtype), gradient, moments), after

    def statistics(self) -> BucketStatistics:
        """Statistics of the entries, and messages where neurons have states."""
        edges, bucket = self._edges_and_new_moments()[0], self._bucket
        rows, columns = _means(Products.of(edges))
        base = self._base()
        over = (2, 3, 4, 5)
        matrices = torch.stack(
            MessageMatrices.over_taps(edges.weight, edges.adam, edges.moments.fast), 3
        )
        numbers = [
            *rows.mean((3, 4)),
            edges.moments.slow.square().mean(over),
            base.square().mean(over),
            *matrices.square().mean((2, 4, 5)).unbind(2),
        ]
        rows, columns = (means.flatten(2).transpose(0, 1) for means in (rows, columns))
        messages = [partial(BucketMessages, bucket, matrices)] if bucket.has_messages else []
        return BucketStatistics(rows, columns, torch.stack(numbers, 2), messages)

    def _base(self) -> Tensor:
        edges = self._edges_and_new_moments()[0]
        return self._step_counts.base(self._bucket, edges.adam, edges.slow, edges.relative)

    def mixed_momenta(self, slow_factors: Tensor) -> Tensor:
        """The mixture of momenta that is to be orthogonalized or whitened.

        Args:
            slow_factors: of the weights of the slow momenta of all bundles, `(runs, bundles)`.
        """
        edges = self._edges_and_new_moments()[0]
        fast, slow, _ = edges.moments
        return self._step_counts.base(self._bucket, fast, slow, edges.gradient, slow_factors)

    def gradients(self) -> Tensor:
        """The gradients, `(runs, members, group, out, in, tap)`; 0 where they do not count."""
        return self._edges_and_new_moments()[0].gradient

    def _alive(self) -> Tensor:
        return self._step_counts.base_update.alive(self._edges_and_new_moments()[0].moments)

    def gated_mean_square(self, whole: Tensor) -> Tensor:
        """Mean square, `(runs, members)`, of a direction where there have been gradients.

        The direction is kept, to be corrected later.

        Args:
            whole: orthogonalized direction, `(runs, members, group, out, in, tap)`.
        """
        self._gated = whole * self._alive()
        return _mean_squares(self._gated)

    def correct(
        self,
        scales: UpdateScales,
        head_inputs: HeadInputs,
        factor: Tensor | None,
        *,
        diagnostics: bool,
    ) -> CorrectedDirections:
        """Correct the base direction.

        Args:
            scales: of all bundles.
            head_inputs: of this bucket.
            factor: of the direction in :meth:`gated_mean_square`, `(runs, members)`; None for
                Adam's direction.
            diagnostics: whether to return corrections.
        """
        (edges, after), bucket = self._edges_and_new_moments(), self._bucket
        if factor is None or self._gated is None:
            base = self._base()
        else:
            base = scaled(self._gated, per_member(factor))
        self._gated = None
        inverses = [bucket.broadcast(inverse) for inverse in scales.inverses]
        alive = self._alive()
        correction = scaled(self._correction(edges, base, head_inputs, inverses), alive)
        direction = torch.addcmul(base, torch.tanh(correction), bucket.broadcast(scales.reach))
        direction = torch.addcmul(direction, edges.weight * alive, bucket.broadcast(scales.pull))
        corrections = correction if diagnostics else None
        return CorrectedDirections(direction, _mean_squares(direction), after, corrections)

    def _correction(
        self, edges: Edges, base: Tensor, head_inputs: HeadInputs, inverses: Sequence[Tensor]
    ) -> Tensor:
        """Raw correction of each entry."""
        bundles = head_inputs.context[:, :, None, None, None, None]
        rows = None if head_inputs.out is None else head_inputs.out[:, :, :, :, None, None]
        columns = None if head_inputs.into is None else head_inputs.into[:, :, :, None, :, None]
        factors = root_inverse(
            head_inputs.rows[..., None, None] * head_inputs.columns[..., None, :, None]
        )
        fast, weight, own = inverses
        arrays = (edges.adam, edges.slow, edges.relative, edges.moments.fast, factors, edges.weight)

        def corrections_of(part: slice) -> Tensor:
            adam, slow, relative, moment, factor, entry = (_rows(a, part) for a in arrays)
            features = [adam, slow, relative, moment * factor, moment * fast, entry * weight]
            features.append(_rows(base, part) * own)
            offsets = [bundles]
            if rows is not None and columns is not None:
                offsets += [_rows(rows, part), columns]
            answer: Tensor = self._head(torch.stack(features, -1), offsets)
            return answer

        height = base.shape[3]
        block_rows = (
            height
            if _needs_all_features()
            else max(1, self._block * height // max(1, base.numel()))
        )
        blocks = [corrections_of(slice(at, at + block_rows)) for at in range(0, height, block_rows)]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 3)

    def update_weights(self, direction: Tensor, rate: Tensor, kept: Tensor | None) -> None:
        """Update the weights in place.

        Args:
            direction: of the corrected step; it is overwritten.
            rate: by what it is multiplied, `(runs, members)`.
            kept: share of the weights that is kept, `(runs, members)`; all by default.
        """
        weight, update = (
            self._edges_and_new_moments()[0].weight,
            scaled(direction, per_member(rate)),
        )
        weight = weight if kept is None else weight * per_member(kept)
        write_arrays(self._bucket, self._given.weight, weight - update)


def write_arrays(bucket: Bucket, tensors: Mapping[str, Tensor], arrays: Tensor) -> None:
    """Write the arrays of the members into tensors."""
    places = [member.bundle.unfold(tensors[member.name]) for member in bucket.members]
    pairs = zip(bucket.members, arrays[0], strict=True)
    torch._foreach_copy_(places, [member.bundle.fold(array) for member, array in pairs])


def per_member(numbers: Tensor) -> Tensor:
    """Expand numbers of members so that they broadcast to arrays."""
    return numbers[..., None, None, None, None]


def _means(products: Products) -> tuple[Tensor, Tensor]:
    """Means over rows and over columns, `(products, runs, members, group, lines)`."""
    if products.square.numel() > MANY:
        rows, columns = (torch.stack([p.mean(o) for p in products]) for o in ((4, 5), (3, 5)))
        return rows, columns
    stack = torch.stack(tuple(products))
    return stack.mean((5, 6)), stack.mean((4, 6))


def _mean_squares(arrays: Tensor) -> Tensor:
    """Mean square of each bundle, `(runs, members)`."""
    return arrays.square().mean((2, 3, 4, 5))


def _needs_all_features() -> bool:
    """Whether features of all entries have to be in memory at once."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def _rows(tensor: Tensor, part: slice) -> Tensor:
    """Some rows of an array; all, where it is the same for all."""
    return tensor if tensor.shape[3] == 1 else tensor[:, :, :, part]
