"""Where the matrices of bundles are in memory, and in which order loops take them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.rules.buckets.plan import Bucket, Member

STRAIGHT, TURNED, TAPS_FIRST = (0, 1, 2), (1, 0, 2), (0, 2, 1)
"""Orders of arrays in memory: contiguous; transposed, of one tap; convolutions, channels last."""


class Plane(NamedTuple):
    """How arrays `(out, in, tap)` lie in memory as matrices.

    Args:
        shape: of the arrays.
        order: of their dimensions in memory; the first are the rows of the matrices.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]

    @classmethod
    def straight(cls, shape: tuple[int, int, int]) -> "Plane":
        """That of contiguous arrays."""
        # One long row is faster than many rows of one entry.
        return cls(shape, TURNED if shape[1] * shape[2] == 1 else STRAIGHT)

    @property
    def turned(self) -> bool:
        """Whether the rows of the matrices are the inputs."""
        return self.order == TURNED

    @property
    def sides(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        rows, *columns = (self.shape[dim] for dim in self.order)
        return rows, math.prod(columns)

    def flat(self, arrays: Tensor) -> Tensor:
        """Arrays as matrices `(..., rows, columns)`."""
        lead = range(arrays.dim() - 3)
        ordered = arrays.permute(*lead, *(len(lead) + dim for dim in self.order))
        return ordered.flatten(-2).contiguous()

    def arrays(self, flat: Tensor) -> Tensor:
        """The arrays of matrices `(..., rows, columns)`."""
        ordered = flat.reshape(*flat.shape[:-2], *(self.shape[dim] for dim in self.order))
        lead = range(ordered.dim() - 3)
        # Each of the orders is its own inverse.
        return ordered.permute(*lead, *(len(lead) + dim for dim in self.order))

    def lines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the output of each row (column), and of the input of each column (row)."""
        out, into, taps = self.shape
        inputs = np.arange(into)
        each = {STRAIGHT: np.repeat(inputs, taps), TAPS_FIRST: np.tile(inputs, taps)}
        return np.arange(out), each.get(self.order, inputs)


class Place(NamedTuple):
    """Where the matrices of a bundle are in a tensor of given strides, in entries.

    Args:
        plane: of the matrices.
        pitch: from a row to the next.
        offsets: where each of them begins.
    """

    plane: Plane
    pitch: int
    offsets: tuple[int, ...] = (0,)

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        strides: Sequence[int],
        offsets: tuple[int, ...] = (0,),
    ) -> "Place | None":
        """The place of arrays of these strides; None if no row of theirs is contiguous."""
        for order in (Plane.straight(shape).order, STRAIGHT, TURNED, TAPS_FIRST):
            plane = Plane(shape, order)
            (rows, _, inner), (pitch, *steps) = ([n[d] for d in order] for n in (shape, strides))
            columns = plane.sides[1]
            together = all(
                step == wanted or shape[dim] == 1
                for dim, step, wanted in zip(order[1:], steps, (inner, 1), strict=True)
            )
            pitch = pitch if rows > 1 else columns
            if together and pitch >= columns and not (plane.turned and shape[2] > 1):
                return cls(plane, pitch, offsets)
        return None


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
    begin, step = int(array.storage_offset()), array.stride(0)
    offsets = tuple(begin + group * step for group in range(bundle.shape[0]))
    return Place.of(bundle.shape[1:], array.stride()[1:], offsets)


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
        known: where what is known of each matrix begins, `(matrices, numbers)`, in parts.
        small: how :func:`.orthogonalize` does each of the matrices; None if torch does it.
    """

    def __init__(
        self, bucket: Bucket, members: range, plane: Plane, items: range, offset: int
    ) -> None:
        self.bucket, self.members, self.plane = bucket, members, plane
        self.items, self.offset = items, offset
        self.known: list[NDArray[np.int64]] = []
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

    Attributes:
        sizes: how :func:`.orthogonalize` does each of the matrices that torch does not, and
        small: their numbers; None if there are none.
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
