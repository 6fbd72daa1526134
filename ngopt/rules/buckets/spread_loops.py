"""Loops over what a process holds of parameters that several share."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.tables import Addresses
from ngopt.rules.buckets.along import CARRIED
from ngopt.rules.buckets.entries import Carrying
from ngopt.rules.buckets.loops import Loops, together
from ngopt.rules.buckets.places import Piece
from ngopt.rules.buckets.plan import Bucket
from ngopt.rules.buckets.spread import Exchange, Held, owners
from ngopt.rules.shards import Shards


class SpreadLoops(Loops):
    """The same loops, over some rows of each matrix; there is one run.

    Sums are added up over all processes. Matrices that are orthogonalized, or along which messages
    go, come together in the process that owns their bundle.

    Args:
        shards: the processes.
        *given: as for :class:`Loops`.

    Raises:
        ValueError: if memory is not divided between rows of matrices.
    """

    def __init__(self, shards: Shards, *given: Any) -> None:
        self._shards = shards
        self._gathering: dict[Piece, Exchange] = {}
        super().__init__(*given)

    @property
    def _at_once(self) -> int:
        return super()._at_once * self._shards.size

    def _table(self) -> None:
        """Go on with what this process holds of each matrix, and make what brings them together."""
        super()._table()
        if self._copied:
            raise ValueError("memory is no matrix")
        shards, whole, pitch = self._shards, self._held, self._sizes[:, 2]
        strides = [own[0] for own in self._strides.values() if own is not None]
        stride = np.array(strides, dtype=np.int64)[self._owner]
        if not Held.divides(self._sizes, whole.offset, stride):
            raise ValueError("rows of matrices are divided")
        held = [
            whole.within(pitch, stride, *(edge[self._owner] for edge in shards.rows(rank)))
            for rank in range(shards.size)
        ]
        self._held = held[shards.rank]
        self._entries = np.stack([each.entries for each in held])
        self._sizes = np.column_stack([self._held.rows, self._held.columns, pitch])
        self._owners = np.zeros_like(pitch)
        self._exchanges: list[Exchange] = []
        for batch in self.batches:
            # Bundles are not divided.
            bundle = self._bundle[batch.items] - batch.bundles.start
            owner = owners(np.bincount(bundle, whole.entries[batch.items]), shards.size)[bundle]
            self._owners[batch.items] = owner
            entries = self._entries[:, batch.items]
            self._exchanges.append(Exchange(shards, entries, owner, self._device))

    def _parts(self, known: list[Addresses], items: slice) -> Iterable[list[Addresses]]:
        """What is known of the rows and columns that are held of one matrix after the other."""
        for number, item in enumerate(range(items.start, items.stop)):
            row, column, rows, columns, _ = (int(numbers[item]) for numbers in self._held)
            lines = (slice(row, row + rows), slice(column, column + columns), slice(None)) * 2
            yield [
                whole[number : number + 1, ..., part]
                for whole, part in zip(known, lines, strict=False)
            ]

    def _add_up(self, sums: Tensor) -> None:
        self._shards.add(sums)

    def _owned(self, piece: Piece) -> Sequence[int]:
        """Members of a piece that this process owns."""
        per = len(piece.items) // len(piece.members)
        mine = self._owners[piece.items.start : piece.items.stop : per] == self._shards.rank
        return [number for number, own in zip(piece.members, mine, strict=True) if own]

    def _multiplies(self, bucket: Bucket) -> bool:
        return False  # no process has all that is multiplied

    def _carry(self, bucket: Bucket) -> Carrying:
        """What carries messages of the members of a bucket that this process owns."""
        pieces = [piece for piece in self.pieces if piece.bucket is bucket]
        arrays = together([self._arrays(piece) for piece in pieces]).transpose(0, 1)
        members = [number for piece in pieces for number in self._owned(piece)]
        return Carrying(bucket, arrays, members, self._shards)

    def _arrays(self, piece: Piece) -> Tensor:
        items = slice(piece.items.start, piece.items.stop)
        if piece not in self._gathering:
            entries = np.repeat(self._entries[:, items], CARRIED, 1)
            owner = np.repeat(self._owners[items], CARRIED)
            self._gathering[piece] = Exchange(self._shards, entries, owner, self._device)
        flat = self._gathering[piece].together(self._carried_of_piece(piece))
        return self._over_taps(piece, len(self._owned(piece)), flat)

    def _orthogonalize(self, number: int) -> None:
        """Orthogonalize what this process owns of a batch, and leave the rest to others."""
        batch, exchange = self.batches[number], self._exchanges[number]
        held = self._mixture[: int(self._held.entries[batch.items].sum())]
        owned = exchange.together(held)
        done, at = [owned[:0]], 0
        for piece in batch.pieces:
            assert piece.bucket.matrix is not None
            shape = len(self._owned(piece)), *piece.lead[1:], *piece.plane.sides
            part = owned[at : at + math.prod(shape)].view(shape)
            at += part.numel()
            if len(part):
                arrays = piece.plane.arrays(part)
                whole = self._base_update.orthogonalized(arrays, piece.bucket.matrix)
                done.append(piece.plane.flat(whole).reshape(-1))
        held.copy_(exchange.apart(torch.cat(done)))
