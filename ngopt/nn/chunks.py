"""Functions of large arrays part by part, so that each part stays in the processor's cache."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]
Apply: TypeAlias = Callable[[Function, Sequence[Tensor]], tuple[Tensor, ...]]
"""Applies a function to arrays whose first axis it treats index by index."""

NUMBERS = 2**17
"""Size of a part of the largest array."""


def at_once(function: Function, arrays: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Apply a function to whole arrays."""
    return function(*arrays)


def by_chunks(function: Function, arrays: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Apply a function to parts of arrays, and put the results together.

    What it computes between is not kept for derivatives, but computed again. On a CPU that is
    faster than to fetch it from memory. Elsewhere the function is applied at once.

    Args:
        function: maps arrays to arrays, index by index of the first axis.
        arrays: with equal first axes.
    """
    groups = len(arrays[0])
    size = max(1, NUMBERS * groups // max(1, *(array.numel() for array in arrays)))
    if arrays[0].device.type != "cpu" or groups <= size:
        return function(*arrays)
    parts = [
        checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False)
        for part in zip(*(torch.split(array, size) for array in arrays), strict=True)
    ]
    return tuple(map(torch.cat, zip(*parts, strict=True)))
