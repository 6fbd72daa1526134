"""Rough orthogonalization of many matrices, in less time than operations of torch take."""

from functools import cache
from typing import Any

import numpy as np
import torch

from ngopt.backends.cpu.build import load_with_products
from ngopt.backends.tables import Addresses
from ngopt.features.scale import EPS, LEAST
from ngopt.rules.layers.polar import coefficients

MOST = 2**23
"""Number of multiplications up to which a matrix takes less time here, on one thread, than in torch
on several."""

EXACT = 2**20
"""Number of multiplications up to which single precision would not be much faster than double."""


def worthwhile(rows: int, columns: int) -> bool:
    """Whether a matrix takes less time here than in torch."""
    few, many = sorted((rows, columns))
    return torch.get_num_threads() == 1 or bool(_multiplications(few, many) <= MOST)


def _multiplications(few: Any, many: Any) -> Any:
    return (3 * few + 2 * many) * few**2


def orthogonalize(sizes: Addresses, entries: Addresses, steps: int, damping: float = 0.0) -> bool:
    """Do to each matrix what :class:`.BaseUpdate` does to orthogonalize it, in place.

    Without damping, small ones are computed in double precision, since matrices of a low rank
    amplify roundings.

    Args:
        sizes: `(matrices, 3)`: rows, columns, and 1 if rows are to be of equal size, 2 if columns
            are, else 0.
        entries: where each matrix begins, contiguous and float32, `(matrices,)`.
        steps: number of iterations; 0 to make sizes equal alone.
        damping: as of :func:`.rough_polar_factor`.

    Returns:
        Whether it is done: not where it cannot be compiled.
    """
    numbers = _numbers(steps, damping)
    if damping:
        return _run(sizes, entries, steps, numbers, double=False)
    few, many = np.sort(sizes[:, :2], 1).T
    exact = _multiplications(few, many) <= EXACT
    return all(
        _run(sizes[chosen], entries[chosen], steps, numbers, double=double)
        for double, chosen in ((True, exact), (False, ~exact))
    )


def _run(sizes: Addresses, entries: Addresses, steps: int, numbers: Any, *, double: bool) -> bool:
    """Run the compiled loop; return whether it can be compiled, or has nothing to do."""
    if not len(sizes):
        return True
    run: Any = load_with_products("orthogonalize.c", double=double, sizes=2, pointers=3)
    if run is None:
        return False
    sizes, entries = (np.ascontiguousarray(table) for table in (sizes, entries))
    run(len(sizes), steps, sizes.ctypes.data, entries.ctypes.data, numbers.ctypes.data)
    return True


@cache
def _numbers(steps: int, damping: float) -> Any:
    polynomials = [number for step in range(steps) for number in coefficients(step)]
    return np.array([EPS, LEAST, damping, *polynomials], dtype=np.float32)
