"""Instructions that are being written, and the memory that they need."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ngopt.replay.instructions import MOST, TYPES, Instruction, Pointwise
from ngopt.replay.recorder import Role, Storage, UnsupportedError
from ngopt.replay.window import Window, simplified

COMPUTED = (torch.float32, torch.float64)
"""What can be computed with."""


class Draft:
    """Instructions that are being written.

    Args:
        storages: memory of the recording; more is added for what comes in between.
    """

    def __init__(self, storages: Sequence[Storage]) -> None:
        self.storages = list(storages)
        self.instructions: list[Instruction] = []

    def pointwise(
        self,
        function: str,
        out: Window,
        inputs: Sequence[Window],
        x: float = 0.0,
        y: float = 0.0,
    ) -> None:
        """Add a function of entries, of inputs that are broadcast and converted."""
        if out.dtype not in COMPUTED:
            raise UnsupportedError(f"{function} of {out.dtype}")
        ready = tuple(self.converted(window, out.dtype).spread(out.shape) for window in inputs)
        self._add(Pointwise(function, out, ready, float(x), float(y)))

    def copy(self, out: Window, window: Window) -> None:
        """Add a copy, with a conversion if the types differ."""
        if not {out.dtype, window.dtype} <= TYPES.keys():
            raise UnsupportedError(f"{window.dtype} as {out.dtype}")
        self._add(Pointwise("convert", out, (window.spread(out.shape),)))

    def converted(self, window: Window, dtype: torch.dtype) -> Window:
        """The window, or a copy of another type."""
        if window.dtype == dtype:
            return window
        copy = self.temporary(window.shape, dtype)
        self.copy(copy, window)
        return copy

    def temporary(self, shape: tuple[int, ...], dtype: torch.dtype) -> Window:
        """A contiguous window of memory of its own."""
        strides = [math.prod(shape[n + 1 :]) for n in range(len(shape))]
        self.storages.append(Storage(Role.MADE, math.prod(shape) * dtype.itemsize))
        return Window(len(self.storages) - 1, 0, shape, tuple(strides), dtype)

    def kept(self, window: Window) -> Window:
        """A copy in memory of its own, in the same order of memory if that has no gaps."""
        copy = self.temporary(window.shape, window.dtype)
        copy = replace(copy, stride=window.stride) if window.dense() else copy
        self.copy(copy, window)
        return copy

    def _add(self, instruction: Pointwise) -> None:
        if not instruction.out.numel():
            return
        dims, _ = simplified([instruction.out, *instruction.inputs])
        if len(dims) > MOST:
            raise UnsupportedError(f"{len(dims)} dimensions in different orders")
        self.instructions.append(instruction)
