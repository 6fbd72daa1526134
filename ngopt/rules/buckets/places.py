"""Where the matrices of bundles are in memory, and in which order loops take them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.rules.buckets.plan import Bucket, Member


class Plane(NamedTuple):
    """How arrays `(out, in, tap)` lie in memory as matrices.

    Args:
        shape: of the arrays.
        turned: whether the rows of the matrices are the inputs.
    """

    shape: tuple[int, int, int]
    turned: bool

    @classmethod
    def of(cls, shape: tuple[int, int, int], strides: Sequence[int]) -> "Plane | None":
        """The plane of an array; None if its memory is no such matrix."""
        out, into, taps = shape
        steps = [s if n > 1 else None for n, s in zip(shape, strides, strict=True)]
        straight = (into * taps, taps, 1)
        if all(s in (None, t) for s, t in zip(steps, straight, strict=True)):
            return cls.straight(shape)
        turned = (1, out, 1)
        if taps == 1 and all(s in (None, t) for s, t in zip(steps, turned, strict=True)):
            return cls(shape, True)
        return None

    @classmethod
    def straight(cls, shape: tuple[int, int, int]) -> "Plane":
        """That of contiguous arrays."""
        # One long row is faster than many rows of one entry.
        return cls(shape, shape[1] * shape[2] == 1)

    @property
    def sides(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        out, into, taps = self.shape
        return (into, out) if self.turned else (out, into * taps)

    def flat(self, arrays: Tensor) -> Tensor:
        """Arrays as matrices `(..., rows, columns)`."""
        return (arrays.transpose(-3, -2) if self.turned else arrays).flatten(-2).contiguous()

    def arrays(self, flat: Tensor) -> Tensor:
        """The arrays of matrices `(..., rows, columns)`."""
        if self.turned:
            return flat.unsqueeze(-1).transpose(-3, -2)
        return flat.reshape(*flat.shape[:-1], *self.shape[1:])

    def lines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the output of each row (column), and of the input of each column (row)."""
        out, into, taps = self.shape
        return np.arange(out), np.repeat(np.arange(into), 1 if self.turned else taps)


class Place(NamedTuple):
    """Where the matrices of a bundle begin in a tensor of given strides, in entries."""

    plane: Plane
    offsets: tuple[int, ...]


def place_of(member: Member, strides: tuple[int, ...]) -> Place | None:
    """Where the matrices of a bundle are; None if the memory of some is no matrix."""
    if strides not in member.places:
        member.places[strides] = _found(member, strides)
    found: Place | None = member.places[strides]
    return found


def _found(member: Member, strides: tuple[int, ...]) -> Place | None:
    bundle = member.bundle
    meta = torch.empty_strided(member.layout.shape, strides, device="meta")
    try:
        array = bundle.unfold(meta).permute(bundle.order).view(bundle.shape)
    except RuntimeError:  # it is no view
        return None
    plane = Plane.of(bundle.shape[1:], array.stride()[1:])
    if plane is None:
        return None
    begin, step = int(array.storage_offset()), array.stride(0)
    return Place(plane, tuple(begin + group * step for group in range(bundle.shape[0])))


class Piece:
    """Some bundles of a bucket, one after the other, whose memory is alike.

    Args:
        bucket: the bucket.
        members: numbers of the bundles among its members.
        plane: of their entries.
        items: numbers of their matrices: of one bundle after the other, its runs, of a run its
            groups.
        offset: of the first entry among those that are there at once.

    Attributes:
        known: of what is known of a matrix, where that of the first begins, and its size.
        small: how :func:`.orthogonalize` does each of the matrices; None if torch does it.
    """

    def __init__(
        self, bucket: Bucket, members: range, plane: Plane, items: range, offset: int
    ) -> None:
        self.bucket, self.members, self.plane = bucket, members, plane
        self.items, self.offset = items, offset
        self.known: list[tuple[int, int]] = []
        self.small: tuple[int, int, int] | None = None

    @property
    def bundles(self) -> slice:
        """Their places among all bundles."""
        start = self.bucket.start
        return slice(start + self.members.start, start + self.members.stop)

    @property
    def lead(self) -> tuple[int, int, int]:
        """How many bundles, runs and groups."""
        members, groups = len(self.members), self.bucket.shape[0]
        return members, len(self.items) // max(1, members * groups), groups

    @property
    def entries(self) -> int:
        """Number of entries of a matrix."""
        rows, columns = self.plane.sides
        return rows * columns

    def flat(self, memory: Tensor) -> Tensor:
        """Their entries in memory, `(members, runs, group, rows, columns)`."""
        part = memory[self.offset : self.offset + len(self.items) * self.entries]
        return part.view(*self.lead, *self.plane.sides)


class Batch:
    """Pieces whose directions are there at once, all with matrices or none, and neurons or none.

    Args:
        pieces: the pieces.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.matrix = pieces[0].bucket.matrix is not None
        self.items = slice(pieces[0].items.start, pieces[-1].items.stop)
        self.bundles = slice(pieces[0].bundles.start, pieces[-1].bundles.stop)
        small = [piece for piece in pieces if piece.small]
        self.sizes = np.array(
            [size for piece in small for size in [piece.small] * len(piece.items)], dtype=np.int64
        )
        numbers = [n - self.items.start for piece in small for n in piece.items]
        self.small = np.array(numbers) if small else None
        last = pieces[-1]
        self.entries = last.offset + len(last.items) * last.entries
