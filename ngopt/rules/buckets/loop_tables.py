"""Tables for compiled loops: batches of matrices, and the addresses of all arguments and results.

A table has one row per matrix. Tables are made once. A step only writes the addresses of its
tensors into them.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ngopt.backends.backend import Backend
from ngopt.backends.cpu import c_functions, orthogonalize, whiten
from ngopt.backends.tables import Addresses, Tables, addresses
from ngopt.features.bundle_statistics import MATRICES
from ngopt.features.moments import Moments
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.bucket import Bucket, Member
from ngopt.rules.buckets.bucket_entries import (
    StepTensors,
)
from ngopt.rules.buckets.compiled_messages import FLOAT
from ngopt.rules.buckets.memory_layout import Batch, MatrixLayout, Placement, Segment, placement_of
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.sharded_matrices import LocalPart
from ngopt.rules.layers.entry_head import EntryHead

COMMON = ("weight", "gradient", "factor", "finite", "step", *Moments._fields)
"""The arguments that all loops but the last have in common, in order."""

TARGET, STEP = 0, 7
"""Positions, among the arguments of :func:`.kernels.update_kernel`, of what is updated, and of the
number of gradients."""


class Numbers(NamedTuple):
    """Numbers of each bundle, `(runs, bundles)`, that loops take.

    Args:
        factor: of the gradients.
        finite: 1 if all gradients are, else 0, and they count as 0.
        base: mean square of the base direction.
        fast: of the fast momentum.
        weight: of the weights.
        decay: pull of weights towards 0.
        slow: factor of the weight of the slow momentum.
        full: size of a full step.
        evidence: for it.
        rate: learning rate.
        kept: share of the weights that stays.
        entries: number of them.
        whole: sum of the squares of the orthogonalized direction.
        corrected: of the corrected one.
    """

    factor: Tensor
    finite: Tensor
    base: Tensor
    fast: Tensor
    weight: Tensor
    decay: Tensor
    slow: Tensor
    full: Tensor
    evidence: Tensor
    rate: Tensor
    kept: Tensor
    entries: Tensor
    whole: Tensor
    corrected: Tensor


SUMS = slice(Numbers._fields.index("whole"), None)
"""The numbers that are sums over entries."""


class LoopTables:
    """The bundles of a plan in batches of matrices, and the memory that loops over them use.

    Args:
        backend: what the loops are made with.
        plan: of the parameters.
        device: where they are.
        runs: how many runs there are.
        base_update: of the rule.
        head: network of the entries, for its number of hidden units.
        graph: whether neurons have states.
        dtypes: of the stored moments.
        strides: of each parameter in one run; None where its entries are copied.
    """

    def __init__(
        self,
        backend: Backend,
        plan: Plan,
        device: torch.device,
        runs: int,
        base_update: BaseUpdate,
        head: EntryHead,
        graph: bool,
        dtypes: tuple[torch.dtype, ...],
        strides: Mapping[str, tuple[int, ...] | None],
    ) -> None:
        self.plan, self.runs, self._base_update, self._graph = plan, runs, base_update, graph
        self._hidden, self._dtypes, self._strides = head.hidden, dtypes, strides
        self._backend, self._device = backend, device
        bundles = sum(len(bucket.members) for bucket in plan.buckets)
        self._numbers = self._zeros(len(Numbers._fields), runs, bundles).fill_(1.0)
        self.numbers = Numbers(*self._numbers)
        batches = self._batches()
        for segment in chain.from_iterable(batches):
            segment.c_sizes = _c_sizes(segment, base_update) if backend.compiled else None
        self.batches = [Batch(segments) for segments in batches]
        self.segments = [segment for batch in self.batches for segment in batch.segments]
        self._index_matrices()
        most = max(int(self._local.entries[batch.items].sum()) for batch in self.batches)
        # The same memory holds matrices of messages, then directions.
        one_by_one = self._segments_with_matrices()
        message_entries = max(
            [int(self._local.entries[item_numbers(segment)].sum()) for segment in one_by_one],
            default=0,
        )
        self._scratch = self._zeros(max(2 * most, MATRICES * message_entries))
        self._mixture, self._direction = self._scratch[: 2 * most].view(2, most)
        self._allocate_context()
        self._make_argument_tables()

    @property
    def _entries_at_once(self) -> int:
        """Number of entries of a batch, unless one bundle has more."""
        return self._backend.at_once

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def _batches(self) -> list[list[Segment]]:
        """Divide all bundles into batches of segments."""
        batches: list[list[Segment]] = []
        kind: object = None
        room = item = 0
        for bucket in self.plan.buckets:
            per = self.runs * bucket.shape[0]
            own = bucket.matrix is not None, self._neurons(bucket)
            for number, member in enumerate(bucket.members):
                matrix_layout, size = self._matrix_layout(member), self.runs * member.bundle.numel
                if own != kind or room + size > self._entries_at_once:
                    batches.append([])
                    room, kind = 0, own
                items = range(item, item + per)
                last = batches[-1][-1] if batches[-1] else None
                if (
                    last is not None
                    and last.bucket is bucket
                    and last.matrix_layout == matrix_layout
                ):
                    last.members = range(last.members.start, number + 1)
                    last.items = range(last.items.start, items.stop)
                else:
                    members = range(number, number + 1)
                    batches[-1].append(Segment(bucket, members, matrix_layout, items, room))
                room, item = room + size, items.stop
        return batches

    def _neurons(self, bucket: Bucket) -> bool:
        """Whether the neurons of a bucket have states."""
        return self._graph and not bucket.stateless

    @property
    def copied(self) -> int:
        """Number of bundles that each step copies, since they do not lie in memory as matrices."""
        return len(self._copied)

    def _matrix_layout(self, member: Member) -> MatrixLayout:
        place = self._placement(member)
        return (
            MatrixLayout.straight(member.bundle.shape[1:]) if place is None else place.matrix_layout
        )

    def _placement(self, member: Member) -> Placement | None:
        strides = self._strides[member.name]
        return None if strides is None else placement_of(member, strides)

    def _index_matrices(self) -> None:
        """For each matrix: its sizes, parameter, run and bundle, its offset in the tensor, and the
        index of its first output and input among those of all bundles.
        """
        numbers = {name: number for number, name in enumerate(self.plan.names)}
        self._copied: list[tuple[Segment, Member, slice]] = []
        rows: list[tuple[int, ...]] = []
        for segment in self.segments:
            groups, out, into, _ = segment.bucket.shape
            outputs, inputs = segment.bucket.outputs.start, segment.bucket.inputs.start
            for number in segment.members:
                member = segment.bucket.members[number]
                place = self._placement(member)
                if place is None:
                    items = slice(len(rows), len(rows) + self.runs * groups)
                    self._copied.append((segment, member, items))
                bundle, owner = segment.bucket.start + number, numbers[member.name]
                offsets = (0,) * groups if place is None else place.offsets
                pitch = segment.matrix_layout.sides[1] if place is None else place.pitch
                own = (*segment.matrix_layout.sides, pitch, owner)
                rows += [
                    (*own, run, bundle, offset, outputs + n * out, inputs + n * into)
                    for run in range(self.runs)
                    for n, offset in enumerate(offsets, number * groups)
                ]
        table = np.array(rows, dtype=np.int64)
        self._sizes = np.ascontiguousarray(table[:, :3])
        self._owner, self._run, self._bundle, offset, *ends = table[:, 3:].T.copy()
        self._local = LocalPart.whole(self._sizes, offset)
        self._ends = ends
        members = [member for bucket in self.plan.buckets for member in bucket.members]
        sizes = [member.bundle.numel for member in members]
        self.numbers.entries.copy_(torch.tensor(sizes, dtype=torch.float32))

    def _allocate_context(self) -> None:
        """Memory for the inputs of the entry head: some numbers for each matrix, side by side.

        They are copied from the graph context: rows, columns, features of bundles, then states of
        outputs and inputs, run by run.
        """
        plan, hidden, bundles = self.plan, self._hidden, self._numbers.shape[2]
        states = [n // max(1, plan.width) for n in plan.context_sizes()[-2:]]
        counts = [plan.outputs, plan.inputs, bundles * hidden, *(n * hidden for n in states)]
        begin = np.cumsum([0, *(self.runs * count for count in counts)])
        places: list[Addresses] = []
        at = 0
        for segment in self.segments:
            items = slice(segment.items.start, segment.items.stop)
            run, units = self._run[items, None], np.arange(hidden)
            # Index of the number of a line, then of the hidden units of its state.
            sides = [
                (
                    begin[n] + run * counts[n] + first[items, None] + lines,
                    begin[n + 3] + run * counts[n + 3] + (first[items, None] + lines) * hidden,
                )
                for n, (first, lines) in enumerate(
                    zip(self._ends, segment.matrix_layout.lines(), strict=True)
                )
            ]
            (row, row_states), (column, column_states) = (
                sides[::-1] if segment.matrix_layout.turned else sides
            )
            context = begin[2] + run * counts[2] + self._bundle[items, None] * hidden + units
            own = [row, column, context]
            if self._neurons(segment.bucket):
                own += [h[:, None] + units[:, None] for h in (row_states, column_states)]
            for numbers in self._context_blocks(own, items):
                starts = []
                for indices in numbers:
                    starts.append(at + indices[0].size * np.arange(len(indices)))
                    at += indices.size
                    places.append(indices.reshape(-1))
                segment.context.append(np.stack(starts, 1))
        self._context_source = torch.from_numpy(np.concatenate(places)).to(self._device)
        self._context = self._zeros(at)

    def _context_blocks(self, context: list[Addresses], items: slice) -> Iterable[list[Addresses]]:
        """Divide the context of some matrices into blocks with equal numbers per matrix."""
        return [context]

    def _make_argument_tables(self) -> None:
        """Make tables of addresses of all arguments and results, as far as they are fixed."""
        items = len(self._sizes)
        numbers = addresses(self._numbers, 3).reshape(len(Numbers._fields), self.runs, -1)
        places = dict(zip(Numbers._fields, numbers[:, self._run, self._bundle, None], strict=True))
        blank = np.zeros((items, 1), dtype=np.int64)
        self._common_addresses = np.hstack([places.get(argument, blank) for argument in COMMON])
        self._known_places: dict[str, list[int]] = {}
        self._correction_addresses: list[Addresses] = []
        self._mixture_results: list[Addresses] = []
        self._mixture_arguments: list[Addresses] = []
        self._gated_addresses: list[Addresses] = []
        self._result_addresses: list[Addresses] = []
        self._update_addresses: list[Addresses] = []
        for batch in self.batches:
            at = batch.items
            own = {name: place[at] for name, place in places.items()}
            context = np.concatenate([self._side_by_side(segment) for segment in batch.segments])
            places_in = self._places_in(batch)
            mixed, direction = (m.data_ptr() + places_in for m in (self._mixture, self._direction))
            shared, empty = self._common_addresses[at], blank[at]
            whole = [mixed, own["whole"], own["entries"]] if batch.matrix else []
            means = [own["base"], own["fast"], own["weight"], own["decay"]]
            # Row, column, weights of the entry head, features of the bundle, states of neurons.
            head_inputs = [context[:, :2], empty, empty, context[:, 2:]]
            self._correction_addresses.append(np.hstack([shared, *whole, *means, *head_inputs]))
            # Whitening needs gradients until directions are written in their place.
            both = [mixed, direction] if self._base_update.whitening_limit else [mixed]
            self._mixture_results.append(np.hstack(both))
            self._mixture_arguments.append(np.hstack([shared, own["slow"]]))
            self._gated_addresses.append(np.hstack([shared, mixed]))
            self._result_addresses.append(np.hstack([direction, own["corrected"]]))
            sizes = [own[n] for n in ("base", "corrected", "entries", "full", "evidence")]
            rates = [own["rate"], own["kept"]]
            self._update_addresses.append(np.hstack([empty, direction, *sizes, empty, *rates]))
        self._whole = [np.ascontiguousarray(places["whole"][batch.items]) for batch in self.batches]
        kinds = (
            self._correction_addresses,
            self._mixture_arguments,
            self._gated_addresses,
            self._update_addresses,
        )
        self._tables = Tables(self._device, [self._common_addresses, *chain.from_iterable(kinds)])
        self._common_addresses, *rest = self._tables.tables
        count = len(self.batches)
        for number, kind in enumerate(kinds):
            kind[:] = rest[number * count : (number + 1) * count]

    def _places_in(self, batch: Batch) -> Addresses:
        """Offset of each matrix in the memory of a batch, in bytes, `(items, 1)`."""
        entries = self._local.entries[batch.items]
        return ((np.cumsum(entries) - entries) * FLOAT)[:, None]

    def _side_by_side(self, segment: Segment) -> Addresses:
        """Addresses of the context of each matrix, `(items, numbers)`."""
        return self._context.data_ptr() + np.concatenate(segment.context) * FLOAT

    def _segments_with_matrices(self) -> list[Segment]:
        """Segments whose matrices of messages are computed segment by segment."""
        return [segment for segment in self.segments if self._by_segment(segment.bucket)]

    def _by_segment(self, bucket: Bucket) -> bool:
        """Whether matrices of messages of a bucket are computed segment by segment."""
        return self._neurons(bucket) and (bucket.shape[3] > 1 or not self._multiplies_in_c(bucket))

    def _multiplies_in_c(self, bucket: Bucket) -> bool:
        """Whether products with matrices of a bucket are computed in C."""
        return self._backend.compiled and c_functions.worthwhile(bucket.shape[1] * bucket.shape[2])

    def prepare_capture(self) -> None:
        """Allocate what a capture in a CUDA graph needs and cannot allocate itself."""
        self._tables.prepare_capture()

    def set_tensors(
        self, given: StepTensors, target: Mapping[str, Tensor], steps: Sequence[Tensor]
    ) -> None:
        """Write the addresses of parameters, gradients and state of this step into the tables.

        Args:
            given: all tensors; for several runs, with a leading dimension for runs. Their strides
                are those of this object, except for gradients and tensors that are copied.
            target: what is updated, of the strides of the parameters.
            steps: of each parameter, number of gradients before this one, in float32.
        """
        self._kept_alive: list[Tensor] = []
        self._written: list[tuple[Member, Tensor, Mapping[str, Tensor]]] = []
        names, copied = self.plan.names, {member.name for _, member, _ in self._copied}
        own = [name for name in names if name not in copied]
        self._changed = [tensors[name] for tensors in (target, *given[2:]) for name in own]
        for kind, tensors in {**given._asdict(), "target": target}.items():
            found = [tensors[name] for name in names]
            if kind == "gradient":
                found = [
                    gradient if strides is None else self._like(gradient, strides)
                    for gradient, strides in zip(found, self._strides.values(), strict=True)
                ]
            self._point_at(kind, found, tensors)
        self._point_at("step", steps)
        self._tables.upload()

    def _point_at(
        self, kind: str, tensors: Sequence[Tensor], source: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the addresses of tensors of a kind into the tables, unless they are there.

        Args:
            kind: one of :data:`COMMON`, or `target`.
            tensors: one for each parameter.
            source: where copies are made of, by name; by default one number, and not a matrix, is
                read of each tensor.
        """
        places = self._places(tensors)
        if places == self._known_places.get(kind) and not self._copied:
            return
        dtype = self._dtype_of(kind)
        column = self._begin(places, dtype.itemsize)
        if source is not None:
            column += self._local.offset * dtype.itemsize
            for segment, member, items in self._copied:
                column[items] = self._copy(segment, member, source, kind)
        tables = [(self._update_addresses, {"target": TARGET, "step": STEP}.get(kind))]
        if kind in COMMON:
            place = COMMON.index(kind)
            self._common_addresses[:, place] = column
            tables += [
                (self._correction_addresses, place),
                (self._mixture_arguments, place),
                (self._gated_addresses, place),
            ]
        for by_batch, position in tables:
            if position is not None:
                for table, batch in zip(by_batch, self.batches, strict=True):
                    table[:, position] = column[batch.items]
        self._known_places[kind] = places

    def _dtype_of(self, kind: str) -> torch.dtype:
        """Dtype of the stored tensors of a kind."""
        return dict(zip(Moments._fields, self._dtypes, strict=True)).get(kind, torch.float32)

    def _places(self, tensors: Sequence[Tensor]) -> list[int]:
        """Address of each tensor; for several runs, then the stride from run to run of each."""
        begin = [tensor.data_ptr() for tensor in tensors]
        return begin if self.runs == 1 else begin + [tensor.stride(0) for tensor in tensors]

    def _begin(self, places: Sequence[int], size: int) -> Addresses:
        """Address of the tensor of each matrix, in its run; entries take `size` bytes."""
        begin, *step = np.array(places, dtype=np.int64).reshape(-1, len(self.plan.names))
        starts: Addresses = begin[self._owner]
        if step:
            starts += step[0][self._owner] * self._run * size
        return starts

    def _like(self, gradient: Tensor, strides: tuple[int, ...]) -> Tensor:
        """A gradient in float32 with the strides of its parameter."""
        runs = gradient.dim() - len(strides)
        if gradient.stride()[runs:] == strides and gradient.dtype == torch.float32:
            return gradient
        if runs:
            sizes = zip(gradient.shape[1:], strides, strict=True)
            strides = (1 + sum((n - 1) * s for n, s in sizes), *strides)
        copy = gradient.new_empty_strided(gradient.shape, strides, dtype=torch.float32)
        self._kept_alive.append(copy.copy_(gradient))
        return copy

    def _copy(
        self, segment: Segment, member: Member, tensors: Mapping[str, Tensor], kind: str
    ) -> Addresses:
        """Addresses of a copy of a bundle's matrices; results in it are put back after the step."""
        runs = _runs(member, tensors[member.name])
        flat = torch.stack([segment.matrix_layout.flat(member.bundle.view(run)) for run in runs])
        flat = flat.to(self._dtype_of(kind))
        self._kept_alive.append(flat)
        if kind not in ("weight", "gradient"):
            self._written.append((member, segment.matrix_layout.arrays(flat), tensors))
        return addresses(flat, 2)

    def _put_back(self) -> None:
        """Write results in copies to where they belong, and forget the tensors of this step."""
        # Autograd must notice that tensors saved for a backward pass have changed.
        increment_version(self._changed)
        for member, arrays, tensors in self._written:
            runs = _runs(member, tensors[member.name])
            for run, array in zip(runs, arrays, strict=True):
                member.bundle.unfold(run).copy_(member.bundle.fold(array))
        self._written, self._kept_alive, self._changed = [], [], []


def item_numbers(segment: Segment) -> Addresses:
    """Indices of the matrices of a segment."""
    return np.arange(segment.items.start, segment.items.stop)


def _runs(member: Member, tensor: Tensor) -> Tensor:
    """A tensor with a dimension for runs in front."""
    return tensor if tensor.dim() > len(member.layout.shape) else tensor.unsqueeze(0)


def _c_sizes(segment: Segment, base_update: BaseUpdate) -> tuple[int, ...] | None:
    """Arguments of :func:`.orthogonalize` for each matrix of a segment; None to use torch."""
    matrix, groups, (rows, columns) = (
        segment.bucket.matrix,
        segment.bucket.shape[0],
        segment.matrix_layout.sides,
    )
    if matrix is None or not orthogonalize.worthwhile(rows, columns):
        return None
    if segment.bucket.whitened:
        return _c_sizes_of_whitened(segment, base_update)
    flat = torch.arange(groups * rows * columns).view(groups, rows, columns)
    given = matrix.view(segment.matrix_layout.arrays(flat))
    for turned, lines in ((1, flat), (2, flat.mT)):
        # The order of columns does not matter for orthogonalization.
        if torch.equal(given.sort(-1).values, lines.sort(-1).values):
            return rows, columns, turned * base_update.equal_rows
    return None


def _c_sizes_of_whitened(segment: Segment, base_update: BaseUpdate) -> tuple[int, ...] | None:
    out, into, taps = segment.bucket.shape[1:]
    if not whiten.worthwhile((out, into, taps)):
        return None
    if segment.matrix_layout.turned:
        return into, out, 2 * base_update.equal_rows
    if segment.matrix_layout == MatrixLayout.straight((out, into, taps)):
        return out, into * taps, 1 * base_update.equal_rows
    return None
