"""Memory layout: how bundles lie in memory as matrices, in segments and batches for loops."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.rules.buckets.bucket import Bucket, Member
from ngopt.rules.buckets.whitening import rank_of

STRAIGHT, TURNED, TAPS_FIRST = (0, 1, 2), (1, 0, 2), (0, 2, 1)
"""Orders of arrays in memory: contiguous; transposed, of one tap; convolutions, channels last."""


class MatrixLayout(NamedTuple):
    """How arrays `(out, in, tap)` lie in memory as matrices of rows and columns.

    Args:
        shape: of the arrays.
        order: of their dimensions in memory; the first are the rows of the matrices.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]

    @classmethod
    def straight(cls, shape: tuple[int, int, int]) -> "MatrixLayout":
        """The layout of contiguous arrays."""
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
        """Reshape arrays to matrices `(..., rows, columns)`."""
        lead = range(arrays.dim() - 3)
        ordered = arrays.permute(*lead, *(len(lead) + dim for dim in self.order))
        return ordered.flatten(-2).contiguous()

    def arrays(self, flat: Tensor) -> Tensor:
        """Reshape matrices `(..., rows, columns)` to arrays."""
        ordered = flat.reshape(*flat.shape[:-2], *(self.shape[dim] for dim in self.order))
        lead = range(ordered.dim() - 3)
        # Each of the orders is its own inverse.
        return ordered.permute(*lead, *(len(lead) + dim for dim in self.order))

    def lines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Index of the output of each row (or column) and of the input of each column (or row)."""
        out, into, taps = self.shape
        inputs = np.arange(into)
        each = {STRAIGHT: np.repeat(inputs, taps), TAPS_FIRST: np.tile(inputs, taps)}
        return np.arange(out), each.get(self.order, inputs)


class Placement(NamedTuple):
    """Where the matrices of a bundle are in a tensor of given strides, in entries.

    Args:
        plane: of the matrices.
        pitch: from a row to the next.
        offsets: where each of them begins.
    """

    matrix_layout: MatrixLayout
    pitch: int
    offsets: tuple[int, ...] = (0,)

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        strides: Sequence[int],
        offsets: tuple[int, ...] = (0,),
    ) -> "Placement | None":
        """The placement of arrays of these strides; None if their rows are not contiguous."""
        for order in (MatrixLayout.straight(shape).order, STRAIGHT, TURNED, TAPS_FIRST):
            matrix_layout = MatrixLayout(shape, order)
            (rows, _, inner), (pitch, *steps) = ([n[d] for d in order] for n in (shape, strides))
            columns = matrix_layout.sides[1]
            together = all(
                step == wanted or shape[dim] == 1
                for dim, step, wanted in zip(order[1:], steps, (inner, 1), strict=True)
            )
            pitch = pitch if rows > 1 else columns
            if together and pitch >= columns and not (matrix_layout.turned and shape[2] > 1):
                return cls(matrix_layout, pitch, offsets)
        return None


def placement_of(member: Member, strides: tuple[int, ...]) -> Placement | None:
    """The placement of a bundle's matrices; None if its memory is not laid out as matrices."""
    if strides not in member.places:
        member.places[strides] = _found(member, strides)
    found: Placement | None = member.places[strides]
    return found


def _found(member: Member, strides: tuple[int, ...]) -> Placement | None:
    bundle = member.bundle
    meta = torch.empty_strided(member.layout.shape, strides, device="meta")
    try:
        array = bundle.unfold(meta).permute(bundle.order).view(bundle.shape)
    except RuntimeError:  # the array is not a view of the tensor
        return None
    begin, step = int(array.storage_offset()), array.stride(0)
    offsets = tuple(begin + group * step for group in range(bundle.shape[0]))
    return Placement.of(bundle.shape[1:], array.stride()[1:], offsets)


class Segment:
    """Consecutive bundles of a bucket that have the same memory layout.

    Args:
        bucket: the bucket.
        members: indices of the bundles among its members.
        plane: of their entries.
        items: indices of their matrices, by bundle, run and group.
        offset: of the first entry in the memory of the batch.

    Attributes:
        context: offsets of the context of each matrix, `(matrices, numbers)`, in blocks.
        c_sizes: arguments of :func:`.orthogonalize` for each matrix; None to use torch.
    """

    def __init__(
        self, bucket: Bucket, members: range, matrix_layout: MatrixLayout, items: range, offset: int
    ) -> None:
        self.bucket, self.members, self.matrix_layout = bucket, members, matrix_layout
        self.items, self.offset = items, offset
        self.context: list[NDArray[np.int64]] = []
        self.c_sizes: tuple[int, ...] | None = None

    @property
    def bundles(self) -> slice:
        """Their indices among all bundles."""
        start = self.bucket.start
        return slice(start + self.members.start, start + self.members.stop)

    @property
    def lead(self) -> tuple[int, int, int]:
        """Numbers of bundles, runs and groups."""
        members, groups = len(self.members), self.bucket.shape[0]
        return members, len(self.items) // max(1, members * groups), groups

    @property
    def dims(self) -> tuple[int, int, int]:
        """Sides of an array in the order of memory: 1 for outputs, 2 for inputs, 3 for taps."""
        return (2, 1, 3) if self.matrix_layout.turned else (1, 2, 3)

    @property
    def entries(self) -> int:
        """Number of entries of a matrix."""
        rows, columns = self.matrix_layout.sides
        return rows * columns

    def flat(self, memory: Tensor) -> Tensor:
        """Their entries in memory, `(members, runs, group, rows, columns)`."""
        part = memory[self.offset : self.offset + len(self.items) * self.entries]
        return part.view(*self.lead, *self.matrix_layout.sides)


class CItems(NamedTuple):
    """Matrices of a batch that are handled in C.

    Args:
        sizes: their arguments, `(matrices, 3)`.
        items: their indices in the batch.
    """

    sizes: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def of(cls, segments: Sequence[Segment], first: int) -> "CItems":
        """All matrices of some segments, of a batch that begins with the matrix `first`."""
        sizes = [size for s in segments for size in [s.c_sizes or ()] * len(s.items)]
        items = [number - first for s in segments for number in s.items]
        table = np.array(sizes, dtype=np.int64).reshape(-1, 3)
        return cls(table, np.array(items, dtype=np.int64))


class Batch:
    """Segments that are in memory at once: all with matrices or none, with states or none.

    Args:
        segments: the segments.

    Attributes:
        orthogonalized: matrices that :func:`.orthogonalize` handles.
        whitened: matrices that :func:`.whiten` handles before.
        whitened_sides: of these, `(matrices, 6)`: the sides, in the order of memory, and the ranks
            of their covariances, 0 for whole ones.
    """

    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments
        self.matrix = segments[0].bucket.matrix is not None
        self.items = slice(segments[0].items.start, segments[-1].items.stop)
        self.bundles = slice(segments[0].bundles.start, segments[-1].bundles.stop)
        in_c = [segment for segment in segments if segment.c_sizes]
        self.orthogonalized, self.whitened = (
            CItems.of([s for s in in_c if s.bucket.whitened == whitened], self.items.start)
            for whitened in (False, True)
        )
        sides = [
            [segment.bucket.shape[dim] for dim in segment.dims]
            for segment in in_c
            if segment.bucket.whitened
            for _ in segment.items
        ]
        ranks = [[*map(rank_of, sizes)] for sizes in sides]
        tables = np.array([sides, ranks], dtype=np.int64).reshape(2, -1, 3)
        self.whitened_sides = np.hstack([*tables])
        last = segments[-1]
        self.entries = last.offset + len(last.items) * last.entries
