"""Compiled loops over the local shards of parameters that are sharded over processes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.tables import Addresses
from ngopt.features.bundle_statistics import MATRICES
from ngopt.rules.buckets.bucket import Bucket
from ngopt.rules.buckets.compiled_loops import CompiledLoops, concatenate
from ngopt.rules.buckets.memory_layout import Segment
from ngopt.rules.buckets.messages import BucketMessages
from ngopt.rules.buckets.sharded_matrices import Exchange, LocalPart, owners
from ngopt.rules.buckets.whitening import Whitening
from ngopt.rules.shards import Shards


class ShardedLoops(CompiledLoops):
    """The same loops, over the local rows of each matrix, for a single run.

    Sums are added up over all processes. Matrices that are orthogonalized, or that messages pass
    along, are gathered in the process that owns their bundle.

    Args:
        shards: the processes.
        *given: as for :class:`CompiledLoops`.

    Raises:
        ValueError: if shards divide rows of matrices.
    """

    def __init__(self, shards: Shards, *given: Any) -> None:
        self._shards = shards
        self._gathering: dict[Segment, Exchange] = {}
        super().__init__(*given)

    @property
    def _entries_at_once(self) -> int:
        return super()._entries_at_once * self._shards.size

    def _index_matrices(self) -> None:
        """Restrict the tables to local parts of matrices, and prepare gathering them."""
        super()._index_matrices()
        if self._copied:
            raise ValueError("memory is not laid out as matrices")
        shards, whole, pitch = self._shards, self._local, self._sizes[:, 2]
        strides = [own[0] for own in self._strides.values() if own is not None]
        stride = np.array(strides, dtype=np.int64)[self._owner]
        if not LocalPart.divides(self._sizes, whole.offset, stride):
            raise ValueError("shards divide rows of matrices")
        local = [
            whole.within(pitch, stride, *(edge[self._owner] for edge in shards.rows(rank)))
            for rank in range(shards.size)
        ]
        self._local = local[shards.rank]
        self._entries = np.stack([own.entries for own in local])
        self._sizes = np.column_stack([self._local.rows, self._local.columns, pitch])
        self._owners = np.zeros_like(pitch)
        self._exchanges: list[Exchange] = []
        for batch in self.batches:
            # A bundle has one owner.
            bundle = self._bundle[batch.items] - batch.bundles.start
            owner = owners(np.bincount(bundle, whole.entries[batch.items]), shards.size)[bundle]
            self._owners[batch.items] = owner
            entries = self._entries[:, batch.items]
            self._exchanges.append(Exchange(shards, entries, owner, self._device))

    def _context_blocks(self, context: list[Addresses], items: slice) -> Iterable[list[Addresses]]:
        """The context of the local rows and columns, matrix by matrix."""
        for number, item in enumerate(range(items.start, items.stop)):
            row, column, rows, columns, _ = (int(numbers[item]) for numbers in self._local)
            lines = (slice(row, row + rows), slice(column, column + columns), slice(None)) * 2
            yield [
                whole[number : number + 1, ..., part]
                for whole, part in zip(context, lines, strict=False)
            ]

    def _add_up(self, sums: Tensor) -> None:
        self._shards.add(sums)

    def _owned(self, segment: Segment) -> Sequence[int]:
        """Members of a segment that this process owns."""
        per = len(segment.items) // len(segment.members)
        mine = self._owners[segment.items.start : segment.items.stop : per] == self._shards.rank
        return [number for number, own in zip(segment.members, mine, strict=True) if own]

    def _multiplies_in_c(self, bucket: Bucket) -> bool:
        return False  # matrices are gathered only bucket by bucket

    def _make_bucket_messages(self, bucket: Bucket) -> BucketMessages:
        """The messages of the members of a bucket that this process owns."""
        segments = [segment for segment in self.segments if segment.bucket is bucket]
        arrays = concatenate([self._message_arrays(segment) for segment in segments]).transpose(
            0, 1
        )
        members = [number for segment in segments for number in self._owned(segment)]
        return BucketMessages(bucket, arrays, members, self._shards)

    def _message_arrays(self, segment: Segment) -> Tensor:
        items = slice(segment.items.start, segment.items.stop)
        if segment not in self._gathering:
            entries = np.repeat(self._entries[:, items], MATRICES, 1)
            owner = np.repeat(self._owners[items], MATRICES)
            self._gathering[segment] = Exchange(self._shards, entries, owner, self._device)
        flat = self._gathering[segment].gather(self._segment_matrices(segment))
        return self._over_taps(segment, len(self._owned(segment)), flat)

    def _orthogonalize(self, number: int, whitening: Whitening) -> None:
        """Orthogonalize the matrices of a batch that this process owns."""
        batch, exchange = self.batches[number], self._exchanges[number]
        local = self._mixture[: int(self._local.entries[batch.items].sum())]
        owned = exchange.gather(local)
        done, at = [owned[:0]], 0
        for segment in batch.segments:
            assert segment.bucket.matrix is not None
            shape = len(self._owned(segment)), *segment.lead[1:], *segment.matrix_layout.sides
            part = owned[at : at + math.prod(shape)].view(shape)
            at += part.numel()
            if len(part):
                arrays = segment.matrix_layout.arrays(part)
                whole = self._base_update.orthogonalized(arrays, segment.bucket.matrix)
                done.append(segment.matrix_layout.flat(whole).reshape(-1))
        local.copy_(exchange.scatter(torch.cat(done)))
