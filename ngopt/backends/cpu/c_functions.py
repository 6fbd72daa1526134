"""Functions in C on many tensors at once: matrix products for messages, largest magnitudes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.cpu.build import load_files, load_with_products
from ngopt.backends.dispatch import can_use_cpu_loops
from ngopt.backends.tables import Addresses

MOST = 2**18
"""Number of entries up to which C on one thread is faster than torch on several threads."""


def worthwhile(entries: int) -> bool:
    """Whether :func:`multiply` is faster than torch for matrices of so many entries."""
    return (torch.get_num_threads() == 1 or entries <= MOST) and _multiply_loop() is not None


def multiply(sizes: Addresses, where: Addresses, kinds: int, width: int) -> None:
    """Multiply `kinds` matrices of each item with the same states, all in float32.

    Args:
        sizes: of each item, numbers of receiving and of sending lines, and the strides of both, in
            entries, `(items, 4)`.
        where: addresses of the matrices, each contiguous, one after the other; of the states,
            `(sending lines, width)`; and the results, `(receiving lines, kinds, width)`; `(items,
            3)`, in bytes.
        kinds: number of matrices of each item.
        width: of the states.
    """
    _multiply_loop()(len(sizes), kinds, width, sizes.ctypes.data, where.ctypes.data)


def _multiply_loop() -> Any:
    """The compiled loop; None if it cannot be compiled."""
    return load_with_products("messages.c", double=False, sizes=3, pointers=2)


def largest_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """Largest magnitude of each tensor, `(tensors,)`; not finite if any of its entries is not.

    None where it cannot be computed here: other than in float32, with other memory than that of
    the entries in between, where nothing can be compiled, or in derivatives.
    """
    plain = all(t.dtype == torch.float32 and _dense(t) for t in tensors)
    if not plain or not can_use_cpu_loops(tensors):
        return None
    run = load_files("largest.c", sizes=1, pointers=3)
    if run is None:
        return None
    sizes = np.array([tensor.numel() for tensor in tensors], dtype=np.int64)
    entries = np.array([tensor.data_ptr() for tensor in tensors], dtype=np.int64)
    found = torch.empty(len(tensors), dtype=torch.float32)
    run(len(tensors), sizes.ctypes.data, entries.ctypes.data, found.data_ptr())
    return found


def _dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )
