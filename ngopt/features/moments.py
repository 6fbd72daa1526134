"""The running state of one parameter: two momenta and the mean of squared gradients.

Elementwise and independent of the graph, so that a graph found later changes nothing in it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.errors import RuleError

FAST = 0.9
SLOW = 0.99
SQUARE = 0.999
"""Decays of the momenta and of the mean of squares."""

MOMENTUM_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Moments(NamedTuple):
    """Bias-corrected moments of a gradient, each of the parameter's shape.

    Args:
        fast: mean of the last 10 or so gradients.
        slow: mean of the last 100 or so gradients.
        square: mean of the last 1000 or so squared gradients.
    """

    fast: Tensor
    slow: Tensor
    square: Tensor


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """Dtype in which the update of a parameter is computed: float64 for float64, else float32."""
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


def check_momentum_dtype(name: str) -> None:
    """Raise `RuleError` unless the name is that of a dtype that momenta can be stored in."""
    if name not in MOMENTUM_DTYPES:
        raise RuleError(
            f"momenta cannot be stored as {name!r}.\n"
            f"  Use momentum_dtype= one of: {', '.join(MOMENTUM_DTYPES)}."
        )


def init_moments(parameter: Tensor, momentum_dtype: str = "bfloat16") -> dict[str, Tensor]:
    """State of a parameter before its first step.

    Args:
        parameter: the parameter; gives shape, device and memory format.
        momentum_dtype: `"bfloat16"` (8 bytes per entry in all, as AdamW) or `"float32"` (12).
            A float64 parameter keeps everything in float64.

    Returns:
        `step` (0-dim float32) and, of the parameter's shape, `fast`, `slow` and `square`.

    Raises:
        RuleError: if `momentum_dtype` is none of the two.
    """
    check_momentum_dtype(momentum_dtype)
    dtype = compute_dtype(parameter)
    momentum = dtype if dtype == torch.float64 else MOMENTUM_DTYPES[momentum_dtype]
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "fast": torch.zeros_like(parameter, dtype=momentum, requires_grad=False),
        "slow": torch.zeros_like(parameter, dtype=momentum, requires_grad=False),
        "square": torch.zeros_like(parameter, dtype=dtype, requires_grad=False),
    }


def update_moments(state: dict[str, Tensor], gradient: Tensor) -> tuple[dict[str, Tensor], Moments]:
    """Take one gradient into the state.

    Args:
        state: what :func:`init_moments` or the last call returned; left as it is.
        gradient: of the parameter's shape.

    Returns:
        The new state, and the bias-corrected moments before they are rounded to be stored.
    """
    dtype = state["square"].dtype
    gradient = gradient.to(dtype)
    step = state["step"] + 1
    new = {
        "fast": torch.lerp(state["fast"].to(dtype), gradient, 1 - FAST),
        "slow": torch.lerp(state["slow"].to(dtype), gradient, 1 - SLOW),
        "square": torch.lerp(state["square"], gradient.square(), 1 - SQUARE),
    }
    count = step.to(dtype)
    moments = Moments(
        new["fast"] / _correction(FAST, count),
        new["slow"] / _correction(SLOW, count),
        new["square"] / _correction(SQUARE, count),
    )
    stored = {name: tensor.to(state[name].dtype) for name, tensor in new.items()}
    return {"step": step, **stored}, moments


def _correction(decay: float, step: Tensor) -> Tensor:
    # expm1, because 1 - 0.999 ** 1 keeps only four digits in float32.
    return -torch.expm1(step * math.log(decay))
