"""Largest magnitudes of many tensors at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.cpu.shipped import shipped
from ngopt.backends.switch import fusible


def largest_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """Largest magnitude of each tensor, `(tensors,)`; not finite if any of its entries is not.

    None where it cannot be computed here: other than in float32, with other memory than that of
    the entries in between, where nothing can be compiled, or in derivatives.
    """
    plain = all(t.dtype == torch.float32 and _dense(t) for t in tensors)
    if not plain or not fusible(tensors):
        return None
    run = shipped("largest.c", sizes=1, pointers=3)
    if run is None:
        return None
    sizes = np.array([tensor.numel() for tensor in tensors], dtype=np.int64)
    entries = np.array([tensor.data_ptr() for tensor in tensors], dtype=np.int64)
    found = torch.empty(len(tensors), dtype=torch.float32)
    run(len(tensors), sizes.ctypes.data, entries.ctypes.data, found.data_ptr())
    return found


def _dense(tensor: Tensor) -> bool:
    images = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return images or tensor.is_contiguous()
