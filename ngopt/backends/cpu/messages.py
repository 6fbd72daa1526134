"""Products of many matrices with states of neurons in one call."""

from typing import Any

import torch

from ngopt.backends.cpu.shipped import with_products
from ngopt.backends.tables import Addresses

MOST = 2**18
"""Number of entries up to which a matrix takes less time here, on one thread, than in torch on
several."""


def worthwhile(entries: int) -> bool:
    """Whether products with matrices of so many entries are to be made here."""
    return (torch.get_num_threads() == 1 or entries <= MOST) and _run() is not None


def multiply(sizes: Addresses, where: Addresses, kinds: int, width: int) -> None:
    """Multiply `kinds` matrices of each item with the same states, all in float32.

    Args:
        sizes: of each item, how many lines are told and how many tell, and how many entries there
            are from one of each to the next, `(items, 4)`.
        where: where the matrices begin, each contiguous, one behind the other; the states, `(lines
            that tell, width)`; and the results, `(lines that are told, kinds, width)`; `(items,
            3)`, in bytes.
        kinds: number of matrices of each item.
        width: of the states.
    """
    _run()(len(sizes), kinds, width, sizes.ctypes.data, where.ctypes.data)


def _run() -> Any:
    """The compiled loop; None if it cannot be compiled."""
    return with_products("messages.c", double=False, sizes=3, pointers=2)
