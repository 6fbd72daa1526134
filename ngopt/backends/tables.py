"""Tables of addresses: written on the CPU, read where loops run."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ngopt.backends.dispatch import capturing
from ngopt.errors import CaptureError

Addresses: TypeAlias = NDArray[np.int64]
"""Addresses in bytes, or sizes."""

SPARES = 4
"""Number of times that tables can be written into CUDA graphs before the next step outside one."""


class Tables:
    """Tables that change from step to step, side by side, so that they are copied at once.

    Args:
        device: where they are read.
        tables: the tables.

    Attributes:
        tables: the same, in new memory; they may be written to.
    """

    def __init__(self, device: torch.device, tables: Sequence[Addresses]) -> None:
        whole = np.concatenate([table.reshape(-1) for table in tables])
        ends = np.cumsum([table.size for table in tables])
        parts = np.split(whole, ends[:-1])
        self.tables = [p.reshape(t.shape) for p, t in zip(parts, tables, strict=True)]
        self._begin, self._host = whole.ctypes.data, torch.from_numpy(whole)
        self._whole, self._uploaded = whole, whole.copy()
        self._there = self._host if device.type == "cpu" else self._host.to(device)
        self._spares: list[Tensor] = []
        self._captured: list[Tensor] = []

    def upload(self) -> None:
        """Have what has been written read from now on.

        While a CUDA graph is being captured, this becomes a part of it: each replay begins by
        copying the tables as they are now.

        Raises:
            CaptureError: if :meth:`prepare_capture` has not been called.
        """
        if self._there is self._host:
            return
        if capturing(self._there.device):
            self._there.copy_(self._snapshot(), non_blocking=True)
        # Addresses rarely change, but a replayed CUDA graph may have overwritten the tables.
        elif self._captured or not np.array_equal(self._whole, self._uploaded):
            self._uploaded[:] = self._whole
            self._there.copy_(self._host, non_blocking=True)

    def prepare_capture(self) -> None:
        """Make room for copies that stay as long as CUDA graphs may read them.

        They are in pinned memory, which cannot be had during a capture.
        """
        device = self._there.device
        if device.type == "cuda" and not self._spares and not capturing(device):
            self._spares = [_pinned(self._host) for _ in range(SPARES)]

    def _snapshot(self) -> Tensor:
        """A copy of the tables that stays."""
        if not self._spares:
            raise CaptureError(
                "a step cannot be captured in a CUDA graph: there is no memory left for its tables."
                "\n  Do a step outside the graph, and capture again."
            )
        self._captured.append(self._spares.pop().copy_(self._host))
        return self._captured[-1]

    def there(self, table: Addresses) -> Tensor:
        """A table, or some rows of one, where it is read; a copy as it is now if it is another."""
        first = (table.ctypes.data - self._begin) // table.itemsize
        if first >= 0 and first + table.size <= len(self._host):
            return self._there[first : first + table.size].view(table.shape)
        return torch.from_numpy(np.ascontiguousarray(table)).to(self._there.device)


def _pinned(like: Tensor) -> Tensor:
    return torch.empty_like(like, pin_memory=True)


def addresses(tensor: Tensor, lead: int) -> Addresses:
    """Where the parts of a tensor begin, one for each place in its first dimensions, flat."""
    found = np.array(tensor.data_ptr(), dtype=np.int64)
    for size, stride in zip(tensor.shape[:lead], tensor.stride()[:lead], strict=True):
        steps = np.arange(size, dtype=np.int64) * (stride * tensor.element_size())
        found = found[..., None] + steps
    return found.reshape(-1)
