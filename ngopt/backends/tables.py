"""Tables of addresses: written on the CPU, read where loops run."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Addresses: TypeAlias = NDArray[np.int64]
"""Addresses in bytes, or sizes."""


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

    def upload(self) -> None:
        """Have what has been written read from now on."""
        # Tensors stay where they are, mostly.
        if self._there is not self._host and not np.array_equal(self._whole, self._uploaded):
            self._uploaded[:] = self._whole
            self._there.copy_(self._host, non_blocking=True)

    def there(self, table: Addresses) -> Tensor:
        """A table, or some rows of one, where it is read; a copy as it is now if it is another."""
        first = (table.ctypes.data - self._begin) // table.itemsize
        if first >= 0 and first + table.size <= len(self._host):
            return self._there[first : first + table.size].view(table.shape)
        return torch.from_numpy(np.ascontiguousarray(table)).to(self._there.device)


def addresses(tensor: Tensor, lead: int) -> Addresses:
    """Where the parts of a tensor begin, one for each place in its first dimensions, flat."""
    found = np.array(tensor.data_ptr(), dtype=np.int64)
    for size, stride in zip(tensor.shape[:lead], tensor.stride()[:lead], strict=True):
        steps = np.arange(size, dtype=np.int64) * (stride * tensor.element_size())
        found = found[..., None] + steps
    return found.reshape(-1)
