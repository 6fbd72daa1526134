"""The running state of one parameter: two momenta and the mean of squared gradients.

Elementwise and independent of the graph, so that a graph found later changes nothing in it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.rounding import to_bfloat16

FAST = 0.9
SLOW = 0.99
SQUARE = 0.999
"""Decays of the momenta and of the mean of squares."""

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Moments(NamedTuple):
    """Bias-corrected moments of a gradient, each of the parameter's shape.

    Args:
        fast: mean of the last 10 or so gradients.
        slow: mean of the last 100 or so gradients, or of more; see :class:`Window`.
        square: mean of the last 1000 or so squared gradients.
    """

    fast: Tensor
    slow: Tensor
    square: Tensor


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """Dtype in which the update of a parameter is computed: float64 for float64, else float32."""
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


def check_dtypes(momentum_dtype: str, square_dtype: str) -> None:
    """Raise `RuleError` unless moments can be stored in the dtypes of these names."""
    for option, name in (("momentum_dtype", momentum_dtype), ("square_dtype", square_dtype)):
        if name not in DTYPES:
            raise RuleError(
                f"moments cannot be stored as {name!r}.\n"
                f"  Use {option}= one of: {', '.join(DTYPES)}."
            )


def init_moments(
    parameter: Tensor, momentum_dtype: str = "bfloat16", square_dtype: str = "float32"
) -> dict[str, Tensor]:
    """State of a parameter before its first step.

    Args:
        parameter: the parameter; gives shape, device and memory format.
        momentum_dtype: `"bfloat16"` (2 bytes per entry for each of the momenta) or `"float32"`.
        square_dtype: `"float32"` (8 bytes per entry in all, as AdamW) or `"bfloat16"` (6).

    A float64 parameter keeps everything in float64.

    Returns:
        `step` (0-dim float32) and, of the parameter's shape, `fast`, `slow` and `square`.

    Raises:
        RuleError: if a dtype is none of the two.
    """
    check_dtypes(momentum_dtype, square_dtype)
    names = (momentum_dtype, square_dtype)
    double = parameter.dtype == torch.float64
    momentum, square = (torch.float64 if double else DTYPES[name] for name in names)
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "fast": torch.zeros_like(parameter, dtype=momentum, requires_grad=False),
        "slow": torch.zeros_like(parameter, dtype=momentum, requires_grad=False),
        "square": torch.zeros_like(parameter, dtype=square, requires_grad=False),
    }


class Window(NamedTuple):
    """Number of steps over which the slow momentum averages: 100, or more in the long run.

    Args:
        power: by what power of the number of steps it grows.
        reference: number of steps after which it begins to.
    """

    power: float = 0.0
    reference: float = 200.0

    def share(self, step: Tensor) -> Tensor | float:
        """Share of the newest gradient in the slow momentum.

        Args:
            step: number of gradients, this one included, any shape.
        """
        if not self.power:
            return 1 - SLOW
        grown = (step * (1 / self.reference)).clamp_min(1.0)
        return (1 - SLOW) * grown**-self.power


FIXED = Window()
"""100 steps, always."""


def update_moments(
    state: dict[str, Tensor], gradient: Tensor, window: Window = FIXED
) -> tuple[dict[str, Tensor], Moments]:
    """Take one gradient into the state.

    Args:
        state: what :func:`init_moments` or the last call returned; left as it is.
        gradient: of the parameter's shape.
        window: of the slow momentum.

    Returns:
        The new state, and the bias-corrected moments before they are rounded to be stored.
    """
    dtype = compute_dtype(state["square"])
    gradient = gradient.to(dtype)
    step = state["step"] + 1
    count = step.to(dtype)
    new = {
        "fast": torch.lerp(state["fast"].to(dtype), gradient, 1 - FAST),
        "slow": torch.lerp(state["slow"].to(dtype), gradient, window.share(count)),
        "square": torch.lerp(state["square"].to(dtype), gradient.square(), 1 - SQUARE),
    }
    moments = Moments(
        new["fast"] / correction(FAST, count),
        new["slow"] / correction(SLOW, count),
        new["square"] / correction(SQUARE, count),
    )
    after = {name: tensor.to(state[name].dtype) for name, tensor in new.items()}
    if state["square"].dtype == torch.bfloat16:
        # To the nearest, it would stand still.
        after["square"] = to_bfloat16(new["square"], step)
    return {"step": step, **after}, moments


def correction(decay: float, step: Tensor) -> Tensor:
    """Share of a mean with this decay that is filled after so many steps, any shape."""
    # expm1, because 1 - 0.999 ** 1 keeps only four digits in float32.
    return -torch.expm1(step * math.log(decay))
