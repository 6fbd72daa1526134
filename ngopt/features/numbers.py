"""Formulas that take numbers of Python and 0-dim tensors alike, so that each is written once."""

from typing import TypeAlias

import torch
from torch import Tensor

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
