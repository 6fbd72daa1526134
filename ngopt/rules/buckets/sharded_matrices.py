"""Matrices whose rows are sharded over processes: the local parts, and gathering of wholes."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.rules.shards import Shards

Integers = NDArray[np.int64]


class LocalPart(NamedTuple):
    """The local part of each matrix: some rows, or some columns of a single row.

    Args:
        row: number of the first row.
        column: number of the first column.
        rows: number of rows.
        columns: number of columns.
        offset: place of the first entry in what the process holds of the tensor.
    """

    row: Integers
    column: Integers
    rows: Integers
    columns: Integers
    offset: Integers

    @property
    def entries(self) -> Integers:
        """Number of entries."""
        return self.rows * self.columns

    @classmethod
    def whole(cls, sizes: Integers, offset: Integers) -> "LocalPart":
        """The parts that are whole matrices.

        Args:
            sizes: rows, columns and pitch of each matrix, `(matrices, 3)`.
            offset: place of the first entry in the whole tensor.
        """
        none = np.zeros(len(sizes), dtype=np.int64)
        return cls(none, none, sizes[:, 0], sizes[:, 1], offset)

    def within(
        self, pitch: Integers, stride: Integers, first: Integers, last: Integers
    ) -> "LocalPart":
        """Restrict the parts to some rows of the tensors.

        Args:
            pitch: from a row of the matrix to the next, in entries.
            stride: from a row of the tensor to the next.
            first: number of the first row of the tensor that is held.
            last: number of the row after the last.
        """
        single_row = self.rows == 1
        step = np.where(single_row, 1, pitch)
        most = np.where(single_row, self.columns, self.rows)
        begin, end = (
            np.clip(-((self.offset - edge * stride) // step), 0, most) for edge in (first, last)
        )
        count = end - begin
        none = np.zeros_like(begin)
        return LocalPart(
            np.where(single_row, none, begin),
            np.where(single_row, begin, none),
            np.where(single_row, (count > 0).astype(np.int64), count),
            np.where(single_row, count, self.columns),
            np.where(count > 0, self.offset + begin * step - first * stride, none),
        )

    @classmethod
    def divides(cls, sizes: Integers, offset: Integers, stride: Integers) -> bool:
        """Whether each row of each matrix is within one row of its tensor, or the matrix has one.

        Args:
            sizes: rows, columns and pitch of each matrix, `(matrices, 3)`.
            offset: place of its first entry in the tensor.
            stride: from a row of the tensor to the next.
        """
        rows, columns, pitch = sizes.T
        coarse = (pitch % stride == 0) & (offset % stride + columns <= stride)
        fine = (stride % pitch == 0) & (offset % pitch + columns <= pitch)
        return bool(((rows == 1) | coarse | fine).all())


def owners(entries: Integers, processes: int) -> Integers:
    """Assign matrices to processes, in order, so that each has about equally many entries.

    >>> owners(np.array([4, 4, 4, 4]), 2).tolist()
    [0, 0, 1, 1]
    """
    middle = np.cumsum(entries) - entries / 2
    found = np.minimum(middle * processes // max(1, entries.sum()), processes - 1)
    owner: Integers = found.astype(np.int64)
    return owner


class Exchange:
    """Gathers each matrix in the process that owns it, and scatters results.

    Args:
        shards: who the processes are.
        entries: number of entries that each process holds of each matrix, `(processes, matrices)`,
            which come one after the other.
        owner: of each matrix, in ascending order.
        device: where the entries are.
    """

    def __init__(
        self, shards: Shards, entries: Integers, owner: Integers, device: torch.device
    ) -> None:
        self._shards = shards
        mine = owner == shards.rank
        ranks = range(shards.size)
        self._sent = [int(entries[shards.rank, owner == rank].sum()) for rank in ranks]
        here = entries[:, mine]
        self._received = here.sum(1).tolist()
        # They arrive process by process; the order needed is matrix by matrix.
        begin = np.concatenate([[0], np.cumsum(here)[:-1]]) if here.size else np.zeros(0)
        order = begin.reshape(here.shape).T.reshape(-1).astype(np.int64)
        places = [np.arange(at, at + n) for at, n in zip(order, here.T.reshape(-1), strict=True)]
        whole = np.concatenate([np.zeros(0, dtype=np.int64), *places])
        back = np.empty_like(whole)
        back[whole] = np.arange(len(whole))
        self._gather_indices, self._scatter_indices = (
            torch.from_numpy(n).to(device) for n in (whole, back)
        )

    def gather(self, local: Tensor) -> Tensor:
        """Gather the matrices that this process owns, one after the other."""
        found = self._shards.exchange(local, self._sent, self._received)
        return found.index_select(0, self._gather_indices)

    def scatter(self, owned: Tensor) -> Tensor:
        """Inverse of :meth:`gather`."""
        given = owned.index_select(0, self._scatter_indices)
        return self._shards.exchange(given, self._received, self._sent)
