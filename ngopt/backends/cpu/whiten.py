"""Whitening of many bundles, in less time than operations of torch take."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ngopt.backends.cpu.build import load_with_products
from ngopt.backends.tables import Addresses
from ngopt.features.scale import LEAST

MOST = 2**24
"""Number of multiplications up to which a bundle takes less time here, on one thread, than in torch
on several."""


def worthwhile(shape: Sequence[int]) -> bool:
    """Whether a bundle `(out, in, tap)` takes less time here than in torch."""
    multiplications = 2 * math.prod(shape) * sum(shape)
    return torch.get_num_threads() == 1 or multiplications <= MOST


def take_in(sizes: Addresses, tensors: Addresses, share: float) -> bool:
    """Take gradients into the covariances of each bundle, as :class:`.Whitening` does.

    Args:
        sizes: `(bundles, 6)`: three sides, and the ranks of their covariances, 0 for whole ones.
        tensors: `(bundles, 8)`: where the momentum, the gradient, the covariances of each side, and
            their roots begin, all contiguous and float32; 0 where a side has none. Gradients are
            overwritten.
        share: of the gradients in the covariances.

    Returns:
        Whether it is done: not where it cannot be compiled.
    """
    return _run(sizes, tensors, share, finish=False)


def whiten(sizes: Addresses, tensors: Addresses) -> bool:
    """Multiply momenta by roots, in place; arguments as for :func:`take_in`."""
    return _run(sizes, tensors, 0.0, finish=True)


def _run(sizes: Addresses, tensors: Addresses, share: float, *, finish: bool) -> bool:
    run: Any = load_with_products("whiten.c", double=False, sizes=2, pointers=3)
    if run is None:
        return False
    sizes, tensors = (np.ascontiguousarray(table) for table in (sizes, tensors))
    numbers = np.array([LEAST, share], dtype=np.float32)
    run(len(sizes), finish, sizes.ctypes.data, tensors.ctypes.data, numbers.ctypes.data)
    return True
