"""Large arrays in blocks that fit a cache, so that what is computed on the way stays small."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

CPU_ENTRIES = 2**18
DEVICE_ENTRIES = 2**24
"""Entries of a block, on the CPU and on other devices, which need more to be busy."""


FEW = 2**14
"""Entries of an array up to which several are stacked: fewer operations count more than memory."""


class Block(NamedTuple):
    """Part of an array `(group, out, in, tap)`; all taps are in it."""

    group: slice
    out: slice
    into: slice

    def of(self, array: Tensor) -> Tensor:
        """View this part of an array."""
        return array[self.group, self.out, self.into]

    def rows(self, array: Tensor) -> Tensor:
        """View this part of what is known of the rows, `(group, out, ...)`."""
        return array[self.group, self.out]

    def columns(self, array: Tensor) -> Tensor:
        """View this part of what is known of the columns, `(group, in, ...)`."""
        return array[self.group, self.into]

    def put(self, whole: Tensor | None, piece: Tensor, like: Tensor) -> Tensor:
        """Put a piece, computed of this part of `like`, where it belongs.

        Args:
            whole: what the last call returned, None at first.
            piece: of the shape of this part.
            like: the whole array; gives shape and strides.
        """
        if self == WHOLE:
            return piece
        if whole is None:
            whole = torch.empty_like(like, dtype=piece.dtype)
        self.of(whole).copy_(piece)
        return whole


WHOLE = Block(slice(None), slice(None), slice(None))


def add_rows(total: Tensor | None, block: Block, rows: Tensor, shape: torch.Size) -> Tensor:
    """Add what is known of the rows of a block to what is known of all rows.

    Args:
        total: what the last call returned, None at first.
        block: the block.
        rows: `(group, out, ...)` of the block.
        shape: of the whole array, `(group, out, in, tap)`.
    """
    if block == WHOLE:
        return rows
    if total is None:
        total = rows.new_zeros(shape[0], shape[1], *rows.shape[2:])
    block.rows(total).add_(rows)
    return total


def add_columns(total: Tensor | None, block: Block, columns: Tensor, shape: torch.Size) -> Tensor:
    """Do the same for columns, `(group, in, ...)`."""
    across = Block(block.group, block.into, block.out)
    return add_rows(total, across, columns, torch.Size((shape[0], shape[2])))


def blocks(array: Tensor, entries: int | None = None) -> list[Block]:
    """Divide an array `(group, out, in, tap)` along the dimensions of its largest strides.

    Args:
        array: the array.
        entries: how many a block may have; by default as suits the device. A block has at least
            one row or column, however long.

    Returns:
        The blocks; just :data:`WHOLE` for a small array, and in compiled code.
    """
    if entries is None:
        entries = CPU_ENTRIES if array.device.type == "cpu" else DEVICE_ENTRIES
    if torch.compiler.is_compiling() or array.numel() <= entries:
        return [WHOLE]
    group, *ends, taps = array.shape
    first, second = (0, 1) if array.stride(1) >= array.stride(2) else (1, 0)
    lengths = [0, 0]
    lengths[second] = ends[second]
    lengths[first] = min(ends[first], max(1, entries // (ends[second] * taps)))
    groups = max(1, entries // (math.prod(lengths) * taps)) if lengths == ends else 1
    return [
        Block(slice(g, g + groups), slice(o, o + lengths[0]), slice(i, i + lengths[1]))
        for g in range(0, group, groups)
        for o in range(0, ends[0], lengths[0])
        for i in range(0, ends[1], lengths[1])
    ]
