"""A step of all bundles of a plan by compiled loops over their entries: fast on the CPU.

Each loop runs over all bundles at once, whatever their shapes; only what is orthogonalized goes
bucket by bucket. Where everything is in memory is put down in tables of addresses, made once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ngopt.backends.backend import Backend
from ngopt.backends.cpu import messages
from ngopt.backends.cpu.orthogonalize import orthogonalize, worthwhile
from ngopt.backends.kernel import Kernel
from ngopt.backends.tables import Addresses, Tables, addresses
from ngopt.features.survey import Products
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets import kernels
from ngopt.rules.buckets.along import CARRIED, FLOAT, Along, Group
from ngopt.rules.buckets.entries import MANY, Carries, Carrying, Given, Heard, Surveyed
from ngopt.rules.buckets.places import Batch, Piece, Place, Plane, place_of
from ngopt.rules.buckets.plan import Bucket, Member, Plan
from ngopt.rules.buckets.spread import Held
from ngopt.rules.layers.entry_head import EntryHead

KNOWN = 8
"""Number of arguments that all loops but the last take; see :func:`.kernels.known`."""

BEFORE = 7
"""Place of the number of gradients among the arguments of the last; see :func:`.kernels.move`."""

Made = TypeVar("Made")

_NONE = np.zeros((0, 0), dtype=np.int64)


class Numbers(NamedTuple):
    """Numbers of each bundle, `(runs, bundles)`, that loops take.

    Args:
        factor: of the gradients.
        finite: 1 if all gradients are, else 0, and they count as 0.
        base: mean square of the base direction.
        fast: of the fast momentum.
        weight: of the weights.
        decay: pull of weights towards 0.
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
    full: Tensor
    evidence: Tensor
    rate: Tensor
    kept: Tensor
    entries: Tensor
    whole: Tensor
    corrected: Tensor


SUMS = slice(Numbers._fields.index("whole"), None)
"""Of the numbers, those that are sums over entries."""


class _Calls(NamedTuple):
    """The loops over a batch: see :mod:`.kernels`."""

    mix: Callable[[], None]
    weigh: Callable[[], None]
    correct: Callable[[], None]
    move: Callable[[], None]


class Loops:
    """Loops over all bundles of a plan, and where everything is in memory.

    Args:
        backend: what the loops are made with.
        plan: of the parameters.
        device: where they are.
        runs: how many runs there are.
        base_update: of the rule.
        head: network of the entries; tells how many hidden units there are.
        graph: whether neurons have states.
        dtypes: of the stored moments.
        strides: of each parameter, of one run; None where its entries are copied.
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
        self._numbers = self._floats(len(Numbers._fields), runs, bundles).fill_(1.0)
        self.numbers = Numbers(*self._numbers)
        divided = self._divided()
        for piece in chain.from_iterable(divided):
            piece.small = _small(piece, base_update) if backend.compiled else None
        self.batches = [Batch(pieces) for pieces in divided]
        self.pieces = [piece for batch in self.batches for piece in batch.pieces]
        self._table()
        most = max(int(self._held.entries[batch.items].sum()) for batch in self.batches)
        # Nothing is carried while directions are there.
        alone = [piece for piece in self.pieces if self._goes_by_piece(piece.bucket)]
        carried = max([int(self._held.entries[_items(piece)].sum()) for piece in alone], default=0)
        self._scratch = self._floats(max(2 * most, CARRIED * carried))
        self._mixture, self._direction = self._scratch[: 2 * most].view(2, most)
        self._memory()
        self._arguments()
        self._sum_up = self._surveying()
        self._groups = self._grouped()
        self._calls = [self._planned(number) for number in range(len(self.batches))]
        self._carries = {piece: self._carry_of_piece(piece) for piece in alone}
        self._weights: object = None
        self._noted: list[tuple[Tensor, int]] = []

    @property
    def _at_once(self) -> int:
        """Number of entries of a batch, unless one bundle has more."""
        return self._backend.at_once

    def _floats(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def _divided(self) -> list[list[Piece]]:
        """All bundles in pieces, in batches."""
        batches: list[list[Piece]] = []
        kind: object = None
        room = item = 0
        for bucket in self.plan.buckets:
            per = self.runs * bucket.shape[0]
            own = bucket.matrix is not None, self._neurons(bucket)
            for number, member in enumerate(bucket.members):
                plane, size = self._plane(member), self.runs * member.bundle.numel
                if own != kind or room + size > self._at_once:
                    batches.append([])
                    room, kind = 0, own
                items = range(item, item + per)
                last = batches[-1][-1] if batches[-1] else None
                if last is not None and last.bucket is bucket and last.plane == plane:
                    last.members = range(last.members.start, number + 1)
                    last.items = range(last.items.start, items.stop)
                else:
                    members = range(number, number + 1)
                    batches[-1].append(Piece(bucket, members, plane, items, room))
                room, item = room + size, items.stop
        return batches

    def _neurons(self, bucket: Bucket) -> bool:
        """Whether there are states of neurons at the ends of its bundles."""
        return self._graph and not bucket.thin

    @property
    def copied(self) -> int:
        """How many bundles are copied at each step, for their memory is no matrix."""
        return len(self._copied)

    def _plane(self, member: Member) -> Plane:
        place = self._where(member)
        return Plane.straight(member.bundle.shape[1:]) if place is None else place.plane

    def _where(self, member: Member) -> Place | None:
        strides = self._strides[member.name]
        return None if strides is None else place_of(member, strides)

    def _table(self) -> None:
        """Of each matrix: its sizes, parameter, run and bundle, where it begins in a tensor, and
        where its outputs and inputs begin among those of all.
        """
        numbers = {name: number for number, name in enumerate(self.plan.names)}
        self._copied: list[tuple[Piece, Member, slice]] = []
        rows: list[tuple[int, ...]] = []
        for piece in self.pieces:
            groups, out, into, _ = piece.bucket.shape
            outputs, inputs = piece.bucket.outputs.start, piece.bucket.inputs.start
            for number in piece.members:
                member = piece.bucket.members[number]
                place = self._where(member)
                if place is None:
                    items = slice(len(rows), len(rows) + self.runs * groups)
                    self._copied.append((piece, member, items))
                bundle, owner = piece.bucket.start + number, numbers[member.name]
                offsets = (0,) * groups if place is None else place.offsets
                pitch = piece.plane.sides[1] if place is None else place.pitch
                own = (*piece.plane.sides, pitch, owner)
                rows += [
                    (*own, run, bundle, offset, outputs + n * out, inputs + n * into)
                    for run in range(self.runs)
                    for n, offset in enumerate(offsets, number * groups)
                ]
        table = np.array(rows, dtype=np.int64)
        self._sizes = np.ascontiguousarray(table[:, :3])
        self._owner, self._run, self._bundle, offset, *ends = table[:, 3:].T.copy()
        self._held = Held.whole(self._sizes, offset)
        self._ends = ends
        members = [member for bucket in self.plan.buckets for member in bucket.members]
        sizes = [member.bundle.numel for member in members]
        self.numbers.entries.copy_(torch.tensor(sizes, dtype=torch.float32))

    def _memory(self) -> None:
        """Memory for what is known between looks: of each matrix some numbers, side by side.

        They are taken from what was seen of all bundles: rows, columns, context, then what the
        network of entries hears of outputs and of inputs, of run after run.
        """
        plan, hidden, bundles = self.plan, self._hidden, self._numbers.shape[2]
        states = [n // max(1, plan.width) for n in plan.sizes_seen()[-2:]]
        counts = [plan.outputs, plan.inputs, bundles * hidden, *(n * hidden for n in states)]
        begin = np.cumsum([0, *(self.runs * count for count in counts)])
        places: list[Addresses] = []
        at = 0
        for piece in self.pieces:
            items = slice(piece.items.start, piece.items.stop)
            run, units = self._run[items, None], np.arange(hidden)
            # First of an output's (input's) numbers, then of each unit of what is heard of it.
            sides = [
                (
                    begin[n] + run * counts[n] + first[items, None] + lines,
                    begin[n + 3] + run * counts[n + 3] + (first[items, None] + lines) * hidden,
                )
                for n, (first, lines) in enumerate(
                    zip(self._ends, piece.plane.lines(), strict=True)
                )
            ]
            (row, row_heard), (column, column_heard) = sides[::-1] if piece.plane.turned else sides
            context = begin[2] + run * counts[2] + self._bundle[items, None] * hidden + units
            own = [row, column, context]
            if self._neurons(piece.bucket):
                own += [h[:, None] + units[:, None] for h in (row_heard, column_heard)]
            for numbers in self._parts(own, items):
                starts = []
                for indices in numbers:
                    starts.append(at + indices[0].size * np.arange(len(indices)))
                    at += indices.size
                    places.append(indices.reshape(-1))
                piece.known.append(np.stack(starts, 1))
        self._from = torch.from_numpy(np.concatenate(places)).to(self._device)
        self._known = self._floats(at)

    def _parts(self, known: list[Addresses], items: slice) -> Iterable[list[Addresses]]:
        """What is known of some matrices, together where it is as much of each."""
        return [known]

    def _arguments(self) -> None:
        """Tables of addresses of all arguments and results, as far as they are known."""
        items = len(self._sizes)
        numbers = addresses(self._numbers, 3).reshape(len(Numbers._fields), self.runs, -1)
        places = dict(zip(Numbers._fields, numbers[:, self._run, self._bundle, None], strict=True))
        blank = np.zeros((items, 1), dtype=np.int64)
        # Weight, gradient, its factor, whether it counts, number of gradients before, moments.
        first = [blank, blank, places["factor"], places["finite"]]
        self._shared = np.hstack([*first, *[blank] * (KNOWN - 4)])
        self._given: list[Addresses] = []
        self._mixed: list[Addresses] = []
        self._weighed: list[Addresses] = []
        self._results: list[Addresses] = []
        self._moved: list[Addresses] = []
        for batch in self.batches:
            at = batch.items
            own = {name: place[at] for name, place in places.items()}
            known = np.concatenate([self._side_by_side(piece) for piece in batch.pieces])
            places_in = self._places_in(batch)
            mixed, direction = (m.data_ptr() + places_in for m in (self._mixture, self._direction))
            shared, empty = self._shared[at], blank[at]
            whole = [mixed, own["whole"], own["entries"]] if batch.matrix else []
            means = [own["base"], own["fast"], own["weight"], own["decay"]]
            # Row, column, weights of the network of entries, context, what neurons say.
            heard = [known[:, :2], empty, empty, known[:, 2:]]
            self._given.append(np.hstack([shared, *whole, *means, *heard]))
            self._mixed.append(mixed)
            self._weighed.append(np.hstack([shared, mixed]))
            self._results.append(np.hstack([direction, own["corrected"]]))
            sizes = [own[n] for n in ("base", "corrected", "entries", "full", "evidence")]
            rates = [own["rate"], own["kept"]]
            self._moved.append(np.hstack([empty, direction, *sizes, empty, *rates]))
        self._whole = [np.ascontiguousarray(places["whole"][batch.items]) for batch in self.batches]
        kinds = (self._given, self._weighed, self._moved)
        self._tables = Tables(self._device, [self._shared, *chain.from_iterable(kinds)])
        self._shared, *rest = self._tables.tables
        count = len(self.batches)
        for number, kind in enumerate(kinds):
            kind[:] = rest[number * count : (number + 1) * count]

    def _places_in(self, batch: Batch) -> Addresses:
        """Where each matrix begins in memory for a batch, in bytes, `(items, 1)`."""
        entries = self._held.entries[batch.items]
        return ((np.cumsum(entries) - entries) * FLOAT)[:, None]

    def _side_by_side(self, piece: Piece) -> Addresses:
        """Where what is known of each matrix begins, `(items, numbers)`."""
        return self._known.data_ptr() + np.concatenate(piece.known) * FLOAT

    def _planned(self, number: int) -> _Calls:
        """The loops over a batch."""
        batch, given, moved = self.batches[number], self._given[number], self._moved[number]
        at, base_update, dtypes = batch.items, self._base_update, self._dtypes
        sizes, mixed, make = self._sizes[at], self._mixed[number], self._backend.make
        mix, weigh = (
            kernels.mix(make, base_update, dtypes),
            kernels.weigh(make, base_update, dtypes),
        )
        correct, move = self._correct(batch, watched=False), kernels.move(make, base_update)
        return _Calls(
            mix.on(sizes, self._shared[at], mixed, self._tables),
            weigh.on(sizes, self._weighed[number], self._whole[number], self._tables),
            correct.on(sizes, given, self._results[number], self._tables),
            move.on(sizes, moved, _NONE, self._tables),
        )

    def _correct(self, batch: Batch, *, watched: bool) -> Kernel:
        return kernels.correct(
            self._backend.make,
            self._base_update,
            self._dtypes,
            self._hidden,
            matrix=batch.matrix,
            neurons=self._neurons(batch.pieces[0].bucket),
            watched=watched,
        )

    def prepare_capture(self) -> None:
        """Have what a capture in a CUDA graph needs and cannot make."""
        self._tables.prepare_capture()

    def take(self, given: Given, target: Mapping[str, Tensor], steps: Sequence[Tensor]) -> None:
        """Put down where parameters, gradients and state are at this step.

        Args:
            given: all tensors, of several runs with a dimension in front; of the strides of this
                plan, but for those that are copied. Gradients may have others.
            target: what is moved, of the strides of the parameters.
            steps: of each parameter, number of gradients before this one, in float32.
        """
        self._kept_alive: list[Tensor] = []
        self._written: list[tuple[Member, Tensor, Mapping[str, Tensor]]] = []
        copied = {member.name for _, member, _ in self._copied}
        own = [name for name in self.plan.names if name not in copied]
        self._changed = [tensors[name] for tensors in (target, *given[2:]) for name in own]
        columns = [self._column(tensors, number) for number, tensors in enumerate(given)]
        self._target = columns[0].copy() if target is given.weight else self._column(target, 0)
        for piece, member, items in self._copied:
            for number, (column, tensors) in enumerate(zip(columns, given, strict=True)):
                column[items] = self._copy(piece, member, tensors, number)
            self._target[items] = self._copy(piece, member, target, len(given))
        before = self._begin(steps, FLOAT)
        for place, column in enumerate([*columns[:2], before, *columns[2:]]):
            self._shared[:, place + 2 * (place > 1)] = column
        for number, batch in enumerate(self.batches):
            at = batch.items
            for tables in (self._given, self._weighed):
                tables[number][:, :KNOWN] = self._shared[at]
            self._moved[number][:, 0], self._moved[number][:, BEFORE] = self._target[at], before[at]
        self._tables.upload()

    def _column(self, tensors: Mapping[str, Tensor], number: int) -> Addresses:
        """Where each matrix begins in the tensors of one kind."""
        size = FLOAT if number < 2 else self._dtypes[number - 2].itemsize
        found = []
        for name in self.plan.names:
            tensor, strides = tensors[name], self._strides[name]
            if number == 1 and strides is not None:
                tensor = self._like(tensor, strides)
            found.append(tensor)
        begin: Addresses = self._begin(found, size) + self._held.offset * size
        return begin

    def _begin(self, tensors: Sequence[Tensor], size: int) -> Addresses:
        """Where the tensor of each matrix, or its run's, begins; entries take `size` bytes."""
        begin = [tensor.data_ptr() for tensor in tensors]
        starts: Addresses = np.array(begin, dtype=np.int64)[self._owner]
        if self.runs > 1:
            step = np.array([tensor.stride(0) for tensor in tensors], dtype=np.int64)
            starts += step[self._owner] * self._run * size
        return starts

    def _like(self, gradient: Tensor, strides: tuple[int, ...]) -> Tensor:
        """A gradient in float32 that lies like its parameter."""
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
        self, piece: Piece, member: Member, tensors: Mapping[str, Tensor], number: int
    ) -> Addresses:
        """Where a copy of a bundle's matrices is; what is written to it is put back in the end."""
        runs = _runs(member, tensors[member.name])
        flat = torch.stack([piece.plane.flat(member.bundle.view(run)) for run in runs])
        flat = flat.to(self._dtypes[number - 2] if 1 < number < 5 else torch.float32)
        self._kept_alive.append(flat)
        if number > 1:
            self._written.append((member, piece.plane.arrays(flat), tensors))
        return addresses(flat, 2)

    def _put_back(self) -> None:
        """Write what was computed in copies to where it belongs, and forget this step."""
        # What was saved for a backward pass is found to have changed.
        increment_version(self._changed)
        for member, arrays, tensors in self._written:
            runs = _runs(member, tensors[member.name])
            for run, array in zip(runs, arrays, strict=True):
                member.bundle.unfold(run).copy_(member.bundle.fold(array))
        self._written, self._kept_alive, self._changed = [], [], []

    def _surveying(self) -> Callable[[], None]:
        """Memory for sums over all bundles, and the loop that makes them."""
        plan, runs, products = self.plan, self.runs, len(Products._fields)
        # Where there are several taps, sums over outputs come for each of them.
        tapped = [p for p in self.pieces if p.bucket.shape[3] > 1]
        per_tap = {id(p): p.entries // p.bucket.shape[1] for p in tapped}
        lines = {id(p): len(p.items) // runs * per_tap[id(p)] for p in tapped}
        begin = dict(zip(lines, accumulate(lines.values(), initial=0), strict=False))
        taps, bundles = sum(lines.values()), self._numbers.shape[2]
        shapes = [(products, plan.outputs), (products, plan.inputs), (products, taps), (2, bundles)]
        sizes = [runs * kinds * count for kinds, count in shapes]
        self._sums = self._floats(sum(sizes))
        self._summed = [
            part.view(runs, *shape)
            for part, shape in zip(torch.split(self._sums, sizes), shapes, strict=True)
        ]
        table = np.zeros((len(self._sizes), 2 * products + 2), dtype=np.int64)
        tap_inputs: list[Addresses] = []
        for piece in self.pieces:
            items, each = slice(piece.items.start, piece.items.stop), np.arange(products)
            run = self._run[items]
            kinds = [0, 1]
            first = [ends[items] for ends in self._ends]
            if id(piece) in per_tap:
                kinds[1], count = 2, per_tap[id(piece)]
                one = np.flatnonzero(run == 0)
                tap_inputs.append((first[1][one, None] + piece.plane.lines()[1]).reshape(-1))
                own = np.empty(len(run), dtype=np.int64)
                for r in range(runs):
                    own[run == r] = begin[id(piece)] + np.arange(len(one)) * count
                first[1] = own
            held = self._held.row, self._held.column
            for place, side in enumerate([1, 0] if piece.plane.turned else [0, 1]):
                kind = kinds[side]
                width, begins = shapes[kind][1], first[side] + held[place][items]
                entries = (run[:, None] * products + each) * width + begins[:, None]
                found = self._summed[kind].data_ptr() + entries * FLOAT
                table[items, place : 2 * products : 2] = found
            both = (run[:, None] * 2 + np.arange(2)) * bundles + self._bundle[items, None]
            table[items, -2:] = self._summed[3].data_ptr() + both * FLOAT
        whole = np.concatenate([np.zeros(0, np.int64), *tap_inputs])
        self._tap_inputs = torch.from_numpy(whole).to(self._device)
        kernel = kernels.survey(self._backend.make, self._base_update, self._dtypes)
        return kernel.on(self._sizes, self._shared, table, self._tables)

    def survey(self, *, differentiable: bool = False) -> Surveyed:
        """Sum up all bundles.

        Args:
            differentiable: whether messages need derivatives, which compiled products have not.
        """
        self._sums.zero_()
        self._sum_up()
        self._add_up(self._sums)
        rows, columns, taps, others = self._summed
        if len(self._tap_inputs):
            columns = columns.index_add(2, self._tap_inputs, taps)
        fixed = self.plan.on(self._numbers)
        entries = self.numbers.entries.unsqueeze(1)
        # Of one output there are as many entries as a bundle has for each of its outputs.
        by_output, by_input = (
            sums / (entries / fixed[f"{side}_ends"].T).index_select(2, fixed[f"{side}_bundle"])
            for sums, side in ((rows, "out"), (columns, "in"))
        )
        total = rows.new_zeros(*rows.shape[:2], others.shape[2])
        total = total.index_add(2, fixed["out_bundle"], rows)
        whole = Products(*(total / entries).unbind(1))
        squares = [whole.weight, whole.adam, whole.fast]
        numbers = torch.stack([*whole, *(others / entries).unbind(1), *squares], -1)
        along: Sequence[Group | Bucket] = self._talking() if differentiable else self._groups
        return Surveyed(by_output, by_input, numbers, self._carrying(along, numbers))

    def _grouped(self) -> list[Group | Bucket]:
        """All along which messages go, bucket by bucket; together where products are compiled."""
        found: list[Group | Bucket] = []
        for compiled, buckets in groupby(self._talking(), self._multiplies):
            if compiled:
                chosen = [*buckets]
                pieces = [piece for piece in self.pieces if piece.bucket in chosen]
                found.append(Group(pieces, self._run, self._ends))
            else:
                found += buckets
        return found

    def _talking(self) -> list[Bucket]:
        return [bucket for bucket in self.plan.buckets if self._neurons(bucket) and bucket.talks]

    def _goes_by_piece(self, bucket: Bucket) -> bool:
        """Whether what goes along its entries is carried piece by piece."""
        return self._neurons(bucket) and (bucket.shape[3] > 1 or not self._multiplies(bucket))

    def _multiplies(self, bucket: Bucket) -> bool:
        """Whether products with matrices of a bucket are made by compiled loops."""
        return self._backend.compiled and messages.worthwhile(bucket.shape[1] * bucket.shape[2])

    def _carrying(
        self, along: Sequence[Group | Bucket], numbers: Tensor
    ) -> list[Callable[[], Carries]]:
        """What carries messages; puts the squares of sums over taps among numbers."""
        return [
            self._along(own, numbers) if isinstance(own, Group) else self._by_bucket(own, numbers)
            for own in along
        ]

    def _along(self, group: Group, numbers: Tensor) -> Callable[[], Carries]:
        """What carries messages of a group."""
        places = [np.zeros(0, np.int64)]
        memory = []
        for piece in group.tapped:
            arrays = self._arrays(piece).contiguous()
            squares = arrays.square().mean((2, 4, 5)).transpose(0, 1)
            numbers[:, piece.bundles, -CARRIED:] = squares
            places.append(addresses(arrays, 3))
            memory.append(arrays)
        if len(group.few):
            begin, flat = self._carried(group.few)
            places.append(begin)
            memory.append(flat)
        return partial(_same, Along(group, np.concatenate(places), memory, self._carried))

    def _by_bucket(self, bucket: Bucket, numbers: Tensor) -> Callable[[], Carries]:
        """The same of a bucket."""
        make = partial(self._carry, bucket)
        few = self.runs * len(bucket.members) * bucket.members[0].bundle.numel <= MANY
        if few or bucket.shape[3] > 1:
            # Sums over taps take little memory, and long to compute.
            kept = make()
            if bucket.shape[3] > 1:
                squares = kept.squares()
                bucket.of(numbers)[..., -squares.shape[-1] :] = squares
            return partial(_same, kept)
        return make

    def _carry(self, bucket: Bucket) -> Carrying:
        """What carries messages of a bucket."""
        arrays = [self._arrays(piece) for piece in self.pieces if piece.bucket is bucket]
        return Carrying(bucket, together(arrays).transpose(0, 1))

    def _arrays(self, piece: Piece) -> Tensor:
        """What carries messages of a piece, `(members, runs, group, matrices, out, in)`.

        In memory of its own, for the next piece comes to the same place.
        """
        return self._over_taps(piece, len(piece.members), self._carried_of_piece(piece))

    def _over_taps(self, piece: Piece, members: int, flat: Tensor) -> Tensor:
        lead = members, *piece.lead[1:], CARRIED
        arrays = piece.plane.arrays(flat.view(*lead, *piece.plane.sides))
        if arrays.shape[-1] == 1:
            return arrays.squeeze(-1).clone(memory_format=torch.contiguous_format)
        return arrays.mean(-1)

    def _carried_of_piece(self, piece: Piece) -> Tensor:
        """What goes along the entries of a piece, until the next piece comes to the same place."""
        if piece not in self._carries:
            return self._carried(_items(piece))[1]
        flat, carry = self._carries[piece]
        carry()
        return flat

    def _carry_of_piece(self, piece: Piece) -> tuple[Tensor, Callable[[], None]]:
        """That place, and the loop that fills it, made once: captured steps upload no tables."""
        items = slice(piece.items.start, piece.items.stop)
        flat = self._scratch[: CARRIED * int(self._held.entries[items].sum())]
        return flat, self._carry_into(flat, items)[1]

    def _carry_into(
        self, flat: Tensor, items: slice | Addresses
    ) -> tuple[Addresses, Callable[[], None]]:
        """Where the kinds of each matrix begin in memory, and the loop that puts them there."""
        kernel = kernels.carry(self._backend.make, self._dtypes)
        entries = np.repeat(self._held.entries[items, None], CARRIED, 1)
        places = flat.data_ptr() + (np.cumsum(entries).reshape(entries.shape) - entries) * FLOAT
        return places, kernel.on(self._sizes[items], self._shared[items], places, self._tables)

    def _carried(self, items: Addresses) -> tuple[Addresses, Tensor]:
        """What goes along the entries of matrices: of each one kind after the other.

        Args:
            items: numbers of the matrices.

        Returns:
            Where that of each matrix begins, in bytes, and everything, flat.
        """
        entries = CARRIED * int(self._held.entries[items].sum())
        flat = torch.empty(entries, dtype=torch.float32, device=self._device)
        places, carry = self._carry_into(flat, items)
        carry()
        return places[:, 0], flat

    def remember(
        self, squares: Tensor, decay: Tensor, full: Tensor, evidence: Tensor, heard: Heard
    ) -> None:
        """Take in what was seen of all bundles; it is remembered until it is said anew.

        Args:
            squares: mean squares of fast momentum, weights and base direction, `(runs, bundles,
                3)`.
            decay: pulls of weights towards 0, `(runs, bundles)`.
            full: sizes of full steps, `(runs, bundles)`.
            evidence: for them, `(runs, bundles)`.
            heard: by the network of entries.
        """
        self._noted = []
        numbers = self.numbers
        means = numbers.fast, numbers.weight, numbers.base
        places = (*means, numbers.decay, numbers.full, numbers.evidence)
        for place, known in zip(places, (*squares.unbind(-1), decay, full, evidence), strict=True):
            place.copy_(known)
        whole = torch.cat([tensor.reshape(-1) for tensor in heard if tensor is not None])
        torch.index_select(whole, 0, self._from, out=self._known)

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Note of what tensors that is remembered which was said last."""
        self._noted = [(tensor, tensor._version) for tensor in tensors]

    def knows(self, tensors: Iterable[Tensor]) -> bool:
        """Whether what is remembered is of these tensors as they are now."""
        noted = self._noted
        now = [*tensors]
        return len(now) == len(noted) and all(
            tensor is own and tensor._version == version
            for tensor, (own, version) in zip(now, noted, strict=True)
        )

    def _weigh(self, head: EntryHead) -> None:
        """Put down the weights of the network of entries, of all runs or of each."""
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
        for batch, table in zip(self.batches, self._given, strict=True):
            first = KNOWN + 3 * batch.matrix + 6
            for place, (begin, step) in enumerate(zip(*where, strict=True), first):
                table[:, place] = begin + self._run[batch.items] * step
        self._tables.upload()

    def run(self, head: EntryHead, tell: Callable[[Piece, Tensor], None] | None) -> None:
        """Correct all directions, update moments, and move what is to be moved.

        Args:
            head: network of the entries.
            tell: is told of the raw corrections of each piece, arrays `(members, runs, group, out,
                in, tap)`.
        """
        self._weigh(head)
        self._numbers[SUMS].zero_()
        for number, (batch, calls) in enumerate(zip(self.batches, self._calls, strict=True)):
            if batch.matrix:
                calls.mix()
                self._orthogonalize(number)
                calls.weigh()
                self._add_up(self.numbers.whole[:, batch.bundles])
            if tell is None:
                calls.correct()
            else:
                self._correct_and_tell(number, tell)
            self._add_up(self.numbers.corrected[:, batch.bundles])
            calls.move()
        self._put_back()

    def _correct_and_tell(self, number: int, tell: Callable[[Piece, Tensor], None]) -> None:
        batch = self.batches[number]
        corrections = self._floats(batch.entries)
        places = [addresses(piece.flat(corrections), 3) for piece in batch.pieces]
        results = np.column_stack([self._results[number], np.concatenate(places)])
        correct = self._correct(batch, watched=True)
        correct.on(self._sizes[batch.items], self._given[number], results, self._tables)()
        for piece in batch.pieces:
            tell(piece, piece.plane.arrays(piece.flat(corrections)))

    def _orthogonalize(self, number: int) -> None:
        """Orthogonalize the matrices of a batch."""
        batch, done = self.batches[number], False
        if batch.small is not None:
            places = self._mixed[number][batch.small, 0]
            done = orthogonalize(batch.sizes, places, self._base_update.orthogonal)
        for piece in batch.pieces:
            assert piece.bucket.matrix is not None
            if done and piece.small:
                continue
            place = piece.flat(self._mixture)
            whole = self._base_update.orthogonalized(piece.plane.arrays(place), piece.bucket.matrix)
            place.copy_(piece.plane.flat(whole))

    def _add_up(self, sums: Tensor) -> None:
        """Complete sums over entries; they are."""


def _items(piece: Piece) -> Addresses:
    """Numbers of the matrices of a piece."""
    return np.arange(piece.items.start, piece.items.stop)


def _runs(member: Member, tensor: Tensor) -> Tensor:
    """A tensor with a dimension for runs in front."""
    return tensor if tensor.dim() > len(member.layout.shape) else tensor.unsqueeze(0)


def _small(piece: Piece, base_update: BaseUpdate) -> tuple[int, int, int] | None:
    """How :func:`.orthogonalize` does each matrix of a piece; None if torch does it."""
    matrix, groups, (rows, columns) = piece.bucket.matrix, piece.bucket.shape[0], piece.plane.sides
    if matrix is None or not worthwhile(rows, columns):
        return None
    flat = torch.arange(groups * rows * columns).view(groups, rows, columns)
    given = matrix.view(piece.plane.arrays(flat))
    for turned, lines in ((1, flat), (2, flat.mT)):
        # Columns may come in any order: they are orthogonalized just so.
        if torch.equal(given.sort(-1).values, lines.sort(-1).values):
            return rows, columns, turned * base_update.equal_rows
    return None


def together(arrays: Sequence[Tensor]) -> Tensor:
    """Arrays one after the other; a lone one as it is."""
    return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays))


def _same(made: Made) -> Made:
    return made
