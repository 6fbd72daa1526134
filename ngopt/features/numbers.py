"""Python numbers beside tensors: formulas for both, and constants copied to a device only once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from ngopt.backends.dispatch import capturing

Number: TypeAlias = float | Tensor
"""A number, or a 0-dim tensor whose value nobody reads on the way."""


def either(condition: bool | Tensor, yes: Number, no: Number) -> Number:
    """Return `yes` where the condition holds, else `no`."""
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


def smaller(a: Number, b: Number) -> Number:
    """Return the smaller of two numbers."""
    return either(a < b, a, b)


def larger(a: Number, b: Number) -> Number:
    """Return the larger of two numbers."""
    return either(a > b, a, b)


Numbers = Sequence[float] | Sequence[Sequence[float]]


def constant(numbers: Numbers, like: Tensor) -> Tensor:
    """Return fixed numbers as a tensor, of the dtype and on the device of another.

    A copy from the host makes it wait for the device, and is not allowed in a CUDA graph. So what
    has been copied is kept; it must not be changed.

    Args:
        numbers: of one or two dimensions.
        like: gives dtype and device.
    """
    if like.device.type == "cpu" or torch.compiler.is_compiling():
        return like.new_tensor(numbers)
    rows = tuple(tuple(row) if isinstance(row, Sequence) else row for row in numbers)
    key = rows, like.dtype, like.device
    if capturing(like.device):  # the graph will read it whenever it is replayed
        return _captured.setdefault(key, _copied(*key))
    return _copied(*key)


_captured: dict[object, Tensor] = {}


@lru_cache(maxsize=1024)
def _copied(
    numbers: tuple[float | tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)
