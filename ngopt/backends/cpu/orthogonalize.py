"""Rough orthogonalization of many matrices, in less time than operations of torch take."""

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch

from ngopt.backends.cpu.build import NoCompilerError, load
from ngopt.backends.switch import give_up
from ngopt.backends.tables import Addresses
from ngopt.features.scale import EPS, LEAST
from ngopt.rules.layers.polar import coefficients

MOST = 2**23
"""Number of multiplications up to which a matrix takes less time here, on one thread, than in torch
on several."""


def worthwhile(rows: int, columns: int) -> bool:
    """Whether a matrix takes less time here than in torch."""
    few, many = sorted((rows, columns))
    return torch.get_num_threads() == 1 or (3 * few + 2 * many) * few**2 <= MOST


def orthogonalize(sizes: Addresses, entries: Addresses, steps: int) -> bool:
    """Do to each matrix what :meth:`.Skeleton.orthogonalized` does, in place.

    Args:
        sizes: `(matrices, 3)`: rows, columns, and 1 if rows are to be of equal size, 2 if columns
            are, else 0.
        entries: where each matrix begins, contiguous and float32, `(matrices,)`.
        steps: number of iterations.

    Returns:
        Whether it is done: not where it cannot be compiled.
    """
    run = _run()
    if run is None:
        return False
    numbers = _numbers(steps)
    run(len(sizes), steps, sizes.ctypes.data, entries.ctypes.data, numbers.ctypes.data)
    return True


@cache
def _run() -> Any:
    """The compiled loop; None if it cannot be compiled."""
    try:
        source = files("ngopt.backends.cpu").joinpath("orthogonalize.c").read_text("utf-8")
        return load(source, "-ffp-contract=fast", sizes=2, pointers=3)
    except NoCompilerError as reason:
        give_up(reason)
        return None


@cache
def _numbers(steps: int) -> Any:
    polynomials = [number for step in range(steps) for number in coefficients(step)]
    return np.array([EPS, LEAST, *polynomials], dtype=np.float32)
