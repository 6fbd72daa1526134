"""A function of entries, ready to run on tensors."""

import ctypes
from collections.abc import Sequence
from itertools import accumulate, count
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.fused.build import load
from ngopt.fused.kinds import Use
from ngopt.fused.source import Argument, Function, Result, source
from ngopt.fused.switch import tell


class Launch(NamedTuple):
    """A call of compiled code.

    Args:
        pointer: address of the code.
        rows: number of rows.
        columns: number of columns.
        inputs: what it reads.
        outputs: tensors that it writes to, each with an offset in bytes.
    """

    pointer: int
    rows: int
    columns: int
    inputs: list[Tensor]
    outputs: list[tuple[Tensor, int]]


SUMS = (Use.ROW_SUM, Use.COLUMN_SUM, Use.SUM)


class Computed(NamedTuple):
    """What a kernel returns, each in the order of the function's results.

    Args:
        stored: entries `(rows, columns)` of each result that is stored.
        rows: sums by row, `(results, rows)`.
        columns: sums by column, `(results, columns)`.
        sums: sums over everything, `(results,)`.
    """

    stored: list[Tensor]
    rows: Tensor
    columns: Tensor
    sums: Tensor


class Kernel:
    """Runs a function of entries in one loop over a matrix.

    Args:
        function: see :func:`~ngopt.fused.source.source`.
        arguments: what it takes.
        results: what becomes of what it returns.

    Raises:
        NoCompilerError: if it cannot be compiled here.
    """

    def __init__(
        self, function: Function, arguments: Sequence[Argument], results: Sequence[Result]
    ) -> None:
        self._run = load(source(function, arguments, results))
        self._pointer = ctypes.cast(self._run, ctypes.c_void_p).value or 0
        uses = [(use, result.dtype) for result in results for use in result.uses]
        self._stored = [dtype for use, dtype in uses if use is Use.STORE]
        self._counts = [sum(use is kind for use, _ in uses) for kind in SUMS]
        # Where each is among all stored arrays, then all sums by row, by column and of everything.
        starts = accumulate([len(self._stored), *self._counts[:-1]], initial=0)
        following = dict(zip((Use.STORE, *SUMS), map(count, starts), strict=True))
        self._places = [next(following[use]) for use, _ in uses]
        self._inputs = ctypes.c_void_p * len(arguments)
        self._outputs = ctypes.c_void_p * len(uses)

    def __call__(self, rows: int, columns: int, arguments: Sequence[Tensor]) -> Computed:
        """Compute all results.

        Args:
            rows: number of rows.
            columns: number of columns.
            arguments: contiguous tensors on the CPU: as many numbers as their kinds say, in the
                order of a matrix `(rows, columns)`.
        """
        stored = [torch.empty(rows, columns, dtype=dtype) for dtype in self._stored]
        lengths = (rows, columns, 1)
        sizes = [n * length for n, length in zip(self._counts, lengths, strict=True)]
        sums = torch.zeros(sum(sizes), dtype=torch.float32)
        targets = [(array, 0) for array in stored]
        at = 0
        for size, length in zip(sizes, lengths, strict=True):
            targets += [(sums, 4 * n) for n in range(at, at + size, length)]
            at += size
        targets = [targets[place] for place in self._places]
        inputs = self._inputs(*(argument.data_ptr() for argument in arguments))
        outputs = self._outputs(*(array.data_ptr() + offset for array, offset in targets))
        self._run(rows, columns, inputs, outputs)
        tell(lambda: Launch(self._pointer, rows, columns, list(arguments), targets))
        by_row, by_column, whole = torch.split(sums, sizes)
        row_sums, column_sums, _ = self._counts
        return Computed(
            stored, by_row.view(row_sums, rows), by_column.view(column_sums, columns), whole
        )
