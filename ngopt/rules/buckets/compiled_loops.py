"""Compiled loops over the entries of all bundles of a plan, which do a step: fast on the CPU.

Each loop runs over many bundles at once, whatever their shapes. Only orthogonalization and some
messages go bucket by bucket.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.cpu.orthogonalize import orthogonalize
from ngopt.backends.cpu.whiten import take_in, whiten
from ngopt.backends.kernel import Kernel
from ngopt.backends.tables import Addresses, addresses
from ngopt.features.bundle_statistics import MATRICES, Products
from ngopt.rules.buckets import kernels
from ngopt.rules.buckets.bucket import Bucket
from ngopt.rules.buckets.bucket_entries import MANY, BucketStatistics, HeadInputs
from ngopt.rules.buckets.compiled_messages import FLOAT, CompiledMessages, MessageGroup
from ngopt.rules.buckets.loop_tables import COMMON, SUMS, LoopTables, item_numbers
from ngopt.rules.buckets.memory_layout import Batch, Segment
from ngopt.rules.buckets.messages import BucketMessages, MessageProducts
from ngopt.rules.buckets.whitening import (
    COVARIANCES,
    ROOTS,
    SIDES,
    Whitening,
    place_of,
    sides,
    size_of,
)
from ngopt.rules.layers.entry_head import EntryHead

Made = TypeVar("Made")

_NONE = np.zeros((0, 0), dtype=np.int64)


class _Calls(NamedTuple):
    """The loops over a batch: see :mod:`.kernels`."""

    mix_momenta: Callable[[], None]
    sum_gated_squares: Callable[[], None]
    correct_directions: Callable[[], None]
    update_targets: Callable[[], None]


class CompiledLoops(LoopTables):
    """Compiled loops over all bundles of a plan; the arguments are those of :class:`LoopTables`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._run_statistics = self._statistics_loop()
        self._groups = self._message_groups()
        self._calls = [self._make_calls(number) for number in range(len(self.batches))]
        self._segment_loops = {
            segment: self._segment_loop(segment) for segment in self._segments_with_matrices()
        }
        self._whitening_offsets = [
            np.hstack([self._offsets_of(key, batch) for key in (COVARIANCES, ROOTS)])
            for batch in self.batches
        ]
        self._whitening_tables = [self._whitening_table(n) for n in range(len(self.batches))]
        self._whitening_places: list[list[int]] = []
        self._weights: object = None
        self._context_versions: list[tuple[Tensor, int]] = []

    def _make_calls(self, number: int) -> _Calls:
        """The loops over a batch."""
        batch, given, moved = (
            self.batches[number],
            self._correction_addresses[number],
            self._update_addresses[number],
        )
        at, base_update, dtypes = batch.items, self._base_update, self._dtypes
        sizes, mixed, make = self._sizes[at], self._mixture_results[number], self._backend.make
        mix, weigh = (
            kernels.mixture_kernel(make, base_update, dtypes),
            kernels.gated_squares_kernel(make, base_update, dtypes),
        )
        correct, move = (
            self._correct(batch, diagnostics=False),
            kernels.update_kernel(make, base_update),
        )
        return _Calls(
            mix.on(sizes, self._mixture_arguments[number], mixed, self._tables),
            weigh.on(sizes, self._gated_addresses[number], self._whole[number], self._tables),
            correct.on(sizes, given, self._result_addresses[number], self._tables),
            move.on(sizes, moved, _NONE, self._tables),
        )

    def _correct(self, batch: Batch, *, diagnostics: bool) -> Kernel:
        return kernels.correction_kernel(
            self._backend.make,
            self._base_update,
            self._dtypes,
            self._hidden,
            matrix=batch.matrix,
            neurons=self._neurons(batch.segments[0].bucket),
            diagnostics=diagnostics,
        )

    def _statistics_loop(self) -> Callable[[], None]:
        """Allocate sums over all bundles, and make the loop that computes them."""
        plan, runs, products = self.plan, self.runs, len(Products._fields)
        # With several taps, sums over outputs are made for each tap, then added.
        tapped = [p for p in self.segments if p.bucket.shape[3] > 1]
        per_tap = {id(p): p.entries // p.bucket.shape[1] for p in tapped}
        lines = {id(p): len(p.items) // runs * per_tap[id(p)] for p in tapped}
        begin = dict(zip(lines, accumulate(lines.values(), initial=0), strict=False))
        taps, bundles = sum(lines.values()), self._numbers.shape[2]
        shapes = [(products, plan.outputs), (products, plan.inputs), (products, taps), (2, bundles)]
        sizes = [runs * kinds * count for kinds, count in shapes]
        self._sums = self._zeros(sum(sizes))
        self._sum_parts = [
            part.view(runs, *shape)
            for part, shape in zip(torch.split(self._sums, sizes), shapes, strict=True)
        ]
        table = np.zeros((len(self._sizes), 2 * products + 2), dtype=np.int64)
        tap_inputs: list[Addresses] = []
        for segment in self.segments:
            items, each = slice(segment.items.start, segment.items.stop), np.arange(products)
            run = self._run[items]
            kinds = [0, 1]
            first = [ends[items] for ends in self._ends]
            if id(segment) in per_tap:
                kinds[1], count = 2, per_tap[id(segment)]
                one = np.flatnonzero(run == 0)
                tap_inputs.append(
                    (first[1][one, None] + segment.matrix_layout.lines()[1]).reshape(-1)
                )
                own = np.empty(len(run), dtype=np.int64)
                for r in range(runs):
                    own[run == r] = begin[id(segment)] + np.arange(len(one)) * count
                first[1] = own
            local = self._local.row, self._local.column
            for place, side in enumerate([1, 0] if segment.matrix_layout.turned else [0, 1]):
                kind = kinds[side]
                width, begins = shapes[kind][1], first[side] + local[place][items]
                entries = (run[:, None] * products + each) * width + begins[:, None]
                found = self._sum_parts[kind].data_ptr() + entries * FLOAT
                table[items, place : 2 * products : 2] = found
            both = (run[:, None] * 2 + np.arange(2)) * bundles + self._bundle[items, None]
            table[items, -2:] = self._sum_parts[3].data_ptr() + both * FLOAT
        whole = np.concatenate([np.zeros(0, np.int64), *tap_inputs])
        self._tap_inputs = torch.from_numpy(whole).to(self._device)
        kernel = kernels.statistics_kernel(self._backend.make, self._base_update, self._dtypes)
        return kernel.on(self._sizes, self._common_addresses, table, self._tables)

    def statistics(self, *, differentiable: bool = False) -> BucketStatistics:
        """Compute the statistics of all bundles.

        Args:
            differentiable: whether messages need derivatives, which products in C do not have.
        """
        self._sums.zero_()
        self._run_statistics()
        self._add_up(self._sums)
        rows, columns, taps, others = self._sum_parts
        if len(self._tap_inputs):
            columns = columns.index_add(2, self._tap_inputs, taps)
        fixed = self.plan.on(self._numbers)
        entries = self.numbers.entries.unsqueeze(1)
        # Entries of one output: those of the bundle, divided by its number of outputs.
        by_output, by_input = (
            sums / (entries / fixed[f"{side}_ends"].T).index_select(2, fixed[f"{side}_bundle"])
            for sums, side in ((rows, "out"), (columns, "in"))
        )
        total = rows.new_zeros(*rows.shape[:2], others.shape[2])
        total = total.index_add(2, fixed["out_bundle"], rows)
        whole = Products(*(total / entries).unbind(1))
        squares = [whole.weight, whole.adam, whole.fast]
        numbers = torch.stack([*whole, *(others / entries).unbind(1), *squares], -1)
        along: Sequence[MessageGroup | Bucket] = (
            self._buckets_with_messages() if differentiable else self._groups
        )
        return BucketStatistics(
            by_output, by_input, numbers, self._message_products(along, numbers)
        )

    def _message_groups(self) -> list[MessageGroup | Bucket]:
        """Buckets with messages; those whose products are computed in C are grouped."""
        found: list[MessageGroup | Bucket] = []
        for compiled, buckets in groupby(self._buckets_with_messages(), self._multiplies_in_c):
            if compiled:
                chosen = [*buckets]
                segments = [segment for segment in self.segments if segment.bucket in chosen]
                found.append(MessageGroup(segments, self._run, self._ends))
            else:
                found += buckets
        return found

    def _buckets_with_messages(self) -> list[Bucket]:
        return [
            bucket for bucket in self.plan.buckets if self._neurons(bucket) and bucket.has_messages
        ]

    def _message_products(
        self, along: Sequence[MessageGroup | Bucket], numbers: Tensor
    ) -> list[Callable[[], MessageProducts]]:
        """Functions that return messages; writes squares of means over taps into `numbers`."""
        return [
            self._compiled_messages(own, numbers)
            if isinstance(own, MessageGroup)
            else self._bucket_messages(own, numbers)
            for own in along
        ]

    def _compiled_messages(
        self, group: MessageGroup, numbers: Tensor
    ) -> Callable[[], MessageProducts]:
        """A function that returns the messages of a group."""
        places = [np.zeros(0, np.int64)]
        memory = []
        for segment in group.tapped:
            arrays = self._message_arrays(segment).contiguous()
            squares = arrays.square().mean((2, 4, 5)).transpose(0, 1)
            numbers[:, segment.bundles, -MATRICES:] = squares
            places.append(addresses(arrays, 3))
            memory.append(arrays)
        if len(group.few):
            begin, flat = self._matrices_of(group.few)
            places.append(begin)
            memory.append(flat)
        return partial(
            _return, CompiledMessages(group, np.concatenate(places), memory, self._matrices_of)
        )

    def _bucket_messages(self, bucket: Bucket, numbers: Tensor) -> Callable[[], MessageProducts]:
        """A function that returns the messages of a bucket."""
        make = partial(self._make_bucket_messages, bucket)
        few = self.runs * len(bucket.members) * bucket.members[0].bundle.numel <= MANY
        if few or bucket.shape[3] > 1:
            # Means over taps take little memory, but long to compute.
            kept = make()
            if bucket.shape[3] > 1:
                squares = kept.squares()
                bucket.select(numbers)[..., -squares.shape[-1] :] = squares
            return partial(_return, kept)
        return make

    def _make_bucket_messages(self, bucket: Bucket) -> BucketMessages:
        """The messages of a bucket."""
        arrays = [
            self._message_arrays(segment) for segment in self.segments if segment.bucket is bucket
        ]
        return BucketMessages(bucket, concatenate(arrays).transpose(0, 1))

    def _message_arrays(self, segment: Segment) -> Tensor:
        """Matrices of messages of a segment, `(members, runs, group, matrices, out, in)`.

        They are copied to memory of their own, since the next segment reuses the scratch memory.
        """
        return self._over_taps(segment, len(segment.members), self._segment_matrices(segment))

    def _over_taps(self, segment: Segment, members: int, flat: Tensor) -> Tensor:
        lead = members, *segment.lead[1:], MATRICES
        arrays = segment.matrix_layout.arrays(flat.view(*lead, *segment.matrix_layout.sides))
        if arrays.shape[-1] == 1:
            return arrays.squeeze(-1).clone(memory_format=torch.contiguous_format)
        return arrays.mean(-1)

    def _segment_matrices(self, segment: Segment) -> Tensor:
        """Matrices of messages of a segment, in scratch memory that the next segment reuses."""
        if segment not in self._segment_loops:
            return self._matrices_of(item_numbers(segment))[1]
        flat, compute = self._segment_loops[segment]
        compute()
        return flat

    def _segment_loop(self, segment: Segment) -> tuple[Tensor, Callable[[], None]]:
        """Scratch memory and the loop that fills it, made once: captured steps upload no tables."""
        items = slice(segment.items.start, segment.items.stop)
        flat = self._scratch[: MATRICES * int(self._local.entries[items].sum())]
        return flat, self._matrices_loop(flat, items)[1]

    def _matrices_loop(
        self, flat: Tensor, items: slice | Addresses
    ) -> tuple[Addresses, Callable[[], None]]:
        """Addresses of the matrices of messages of each item, and the loop that computes them."""
        kernel = kernels.message_matrices_kernel(self._backend.make, self._dtypes)
        entries = np.repeat(self._local.entries[items, None], MATRICES, 1)
        places = flat.data_ptr() + (np.cumsum(entries).reshape(entries.shape) - entries) * FLOAT
        return places, kernel.on(
            self._sizes[items], self._common_addresses[items], places, self._tables
        )

    def _matrices_of(self, items: Addresses) -> tuple[Addresses, Tensor]:
        """Compute the matrices of messages of some items, one kind after the other.

        Args:
            items: numbers of the matrices.

        Returns:
            Address of the first matrix of each item, and all matrices, flat.
        """
        entries = MATRICES * int(self._local.entries[items].sum())
        flat = torch.empty(entries, dtype=torch.float32, device=self._device)
        places, compute = self._matrices_loop(flat, items)
        compute()
        return places[:, 0], flat

    def set_context(
        self,
        squares: Tensor,
        decay: Tensor,
        slow: Tensor,
        full: Tensor,
        evidence: Tensor,
        head_inputs: HeadInputs,
    ) -> None:
        """Copy the graph context of all bundles into the memory of the loops.

        Args:
            squares: mean squares of fast momentum, weights and base direction, `(runs, bundles,
                3)`.
            decay: pulls of weights towards 0, `(runs, bundles)`.
            slow: factors of the weight of the slow momentum, `(runs, bundles)`.
            full: sizes of full steps, `(runs, bundles)`.
            evidence: for them, `(runs, bundles)`.
            head_inputs: of all bundles.
        """
        self._context_versions = []
        numbers = self.numbers
        means = numbers.fast, numbers.weight, numbers.base
        places = (*means, numbers.decay, numbers.slow, numbers.full, numbers.evidence)
        for place, context in zip(
            places, (*squares.unbind(-1), decay, slow, full, evidence), strict=True
        ):
            place.copy_(context)
        whole = torch.cat([tensor.reshape(-1) for tensor in head_inputs if tensor is not None])
        torch.index_select(whole, 0, self._context_source, out=self._context)

    def mark_context(self, tensors: Iterable[Tensor]) -> None:
        """Note which tensors the current context was made from."""
        self._context_versions = [(tensor, tensor._version) for tensor in tensors]

    def has_context(self, tensors: Iterable[Tensor]) -> bool:
        """Whether the current context was made from these tensors as they are now."""
        noted = self._context_versions
        now = [*tensors]
        return len(now) == len(noted) and all(
            tensor is own and tensor._version == version
            for tensor, (own, version) in zip(now, noted, strict=True)
        )

    def _set_head_weights(self, head: EntryHead) -> None:
        """Write the addresses of the weights of the entry head into the tables."""
        weights = [layer.weight.detach() for layer in (head.entry, head.output)]
        plain = all(w.dtype == torch.float32 and w.is_contiguous() for w in weights)
        if not plain:
            weights = [weight.to(torch.float32).contiguous() for weight in weights]
            self._kept_alive += weights
        steps = [weight.stride(0) * FLOAT if weight.dim() > 2 else 0 for weight in weights]
        where = [weight.data_ptr() for weight in weights], steps
        if where == self._weights:
            return
        self._weights = where
        for batch, table in zip(self.batches, self._correction_addresses, strict=True):
            first = len(COMMON) + 3 * batch.matrix + 6
            for place, (begin, step) in enumerate(zip(*where, strict=True), first):
                table[:, place] = begin + self._run[batch.items] * step
        self._tables.upload()

    def run(
        self,
        head: EntryHead,
        whitening: Whitening,
        report: Callable[[Segment, Tensor], None] | None,
    ) -> None:
        """Correct all directions, update the moments, and update the targets.

        Args:
            head: network of the entries.
            whitening: of matrices that are whitened.
            report: called with the raw corrections of each segment, arrays `(members, runs, group,
                out, in, tap)`; None for no diagnostics.
        """
        self._set_head_weights(head)
        self._numbers[SUMS].zero_()
        for number, (batch, calls) in enumerate(zip(self.batches, self._calls, strict=True)):
            if batch.matrix:
                calls.mix_momenta()
                self._orthogonalize(number, whitening)
                calls.sum_gated_squares()
                self._add_up(self.numbers.whole[:, batch.bundles])
            if report is None:
                calls.correct_directions()
            else:
                self._correct_and_report(number, report)
            self._add_up(self.numbers.corrected[:, batch.bundles])
            calls.update_targets()
        self._put_back()

    def _correct_and_report(self, number: int, report: Callable[[Segment, Tensor], None]) -> None:
        batch = self.batches[number]
        corrections = self._zeros(batch.entries)
        places = [addresses(segment.flat(corrections), 3) for segment in batch.segments]
        results = np.column_stack([self._result_addresses[number], np.concatenate(places)])
        correct = self._correct(batch, diagnostics=True)
        correct.on(
            self._sizes[batch.items], self._correction_addresses[number], results, self._tables
        )()
        for segment in batch.segments:
            report(segment, segment.matrix_layout.arrays(segment.flat(corrections)))

    def _orthogonalize(self, number: int, whitening: Whitening) -> None:
        """Orthogonalize or whiten the matrices of a batch."""
        batch, done = self.batches[number], True
        if len(batch.orthogonalized.items):
            places = self._mixture_results[number][batch.orthogonalized.items, 0]
            done = orthogonalize(batch.orthogonalized.sizes, places, self._base_update.orthogonal)
        done = done and self._whiten(number, whitening)
        for segment in batch.segments:
            assert segment.bucket.matrix is not None
            if done and segment.c_sizes:
                continue
            place = segment.flat(self._mixture)
            given = segment.matrix_layout.arrays(place)
            if segment.bucket.whitened:
                gradients = segment.matrix_layout.arrays(segment.flat(self._direction))
                by_run = given.transpose(0, 1), gradients.transpose(0, 1)
                whole = whitening.directions(segment.bucket, segment.members, *by_run)
                whole = whole.transpose(0, 1)
            else:
                whole = self._base_update.orthogonalized(given, segment.bucket.matrix)
            place.copy_(segment.matrix_layout.flat(whole))

    def _whiten(self, number: int, whitening: Whitening) -> bool:
        """Whiten those bundles of a batch that C handles; return whether it can."""
        batch, tensors = self.batches[number], self._whitening_tables[number]
        if not len(tensors):
            return True
        base_update, sides_of = self._base_update, batch.whitened_sides
        self._point_at_covariances(whitening)
        if not take_in(sides_of, tensors, 1 - base_update.whitening_decay):
            return False
        if whitening.refresh:
            for segment in batch.segments:
                if segment.bucket.whitened and segment.c_sizes:
                    for side in sides(segment.bucket):
                        whitening.compute_roots(segment.bucket, segment.members, side)
        return whiten(sides_of, tensors) and orthogonalize(
            batch.whitened.sizes,
            tensors[:, 0],
            base_update.whitened_orthogonal,
            base_update.orthogonal_damping,
        )

    def _whitening_table(self, number: int) -> Addresses:
        """Arguments of :func:`.whiten` for a batch, as far as they are fixed."""
        items, offsets = self.batches[number].whitened.items, self._whitening_offsets[number]
        return np.hstack([self._mixture_results[number][items], np.zeros_like(offsets)])

    def _point_at_covariances(self, whitening: Whitening) -> None:
        """Write the addresses of covariances and roots into the tables, unless they are there."""
        keys, names = (COVARIANCES, ROOTS), self.plan.names
        places = [self._places(whitening.tensors(key, names)) for key in keys]
        if places == self._whitening_places:
            return
        begins = np.stack([self._begin(own, FLOAT) for own in places], 1).repeat(len(SIDES), 1)
        for batch, table, offsets in zip(
            self.batches, self._whitening_tables, self._whitening_offsets, strict=True
        ):
            begin = begins[batch.items][batch.whitened.items]
            table[:, -begin.shape[1] :] = np.where(offsets < 0, 0, begin + offsets)
        self._whitening_places = places

    def _offsets_of(self, key: str, batch: Batch) -> Addresses:
        """Offsets of the covariances or roots of each side of the bundles that C whitens, in bytes.

        Sides are in the order of memory, `(matrices, 3)`; -1 for those that have none.
        """
        found = []
        for segment in batch.segments:
            shape = segment.bucket.shape
            if not (segment.bucket.whitened and segment.c_sizes):
                continue
            order = segment.dims
            steps = np.array([size_of(key, shape[side]) for side in order])
            groups = np.arange(shape[0])[:, None]
            for number in segment.members:
                member = segment.bucket.members[number]
                begin = np.array([place_of(key, member.layout, member.number, s) for s in order])
                own = np.where(steps > 0, (begin + groups * steps) * FLOAT, -1)
                found += [own] * self.runs
        return np.concatenate([np.zeros((0, 3), np.int64), *found])

    def _add_up(self, sums: Tensor) -> None:
        """Add up sums over processes; here there is only one."""


def concatenate(arrays: Sequence[Tensor]) -> Tensor:
    """Concatenate arrays; a single one is returned as it is."""
    return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays))


def _return(made: Made) -> Made:
    """Return the argument, for `partial`."""
    return made
