"""Rounding to the precision of bfloat16 that is right on average over the steps.

A mean that moves by less than half a unit in the last place at each step stands still if it is
rounded to the nearest number: a mean of squares with a decay of 0.999 would hardly ever fall. Here
the place at which numbers are rounded up runs through the unit from step to step, along multiples
of the golden ratio, which fill it evenly: what is lost at one step comes back at another. Nothing
is random, and all entries are treated alike.
"""

from typing import Any

import torch
from torch import Tensor

GOLDEN = 40503
"""Odd number nearest to 2**16 over the golden ratio."""

SOURCE = f"""
#include <stdint.h>
#include <string.h>

static inline float rounded_of(float x, float step) {{
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + (((uint32_t)(int64_t)step * {GOLDEN}u) & 0xffffu)) & 0xffff0000u;
  memcpy(&x, &bits, 4);
  return x;
}}
"""
"""The same as :func:`rounded` in C."""


@torch.library.custom_op("ngopt::rounded", mutates_args=())
def rounded(value: Tensor, step: Tensor) -> Tensor:
    """Round to one of the two neighbours with eight binary digits.

    An operation of its own, so that compiled loops know it by name.

    Args:
        value: float32, at least 0 and finite.
        step: whole number at which it is rounded, float32; broadcasts to the value.

    Returns:
        float32 of the same shape, exact in bfloat16.
    """
    place = ((step.to(torch.int64) * GOLDEN) & 0xFFFF).to(torch.int32)
    return ((value.view(torch.int32) + place) & -0x10000).view(torch.float32)


@rounded.register_fake
def _(value: Tensor, step: Tensor) -> Tensor:
    return torch.empty_like(value)


@rounded.register_vmap
def _(info: Any, dims: tuple[int | None, int | None], value: Tensor, step: Tensor) -> Any:
    batched, counted = dims
    if batched is None:
        value = value.expand(info.batch_size, *value.shape)
    else:
        value = value.movedim(batched, 0)
    if counted is not None:
        step = step.movedim(counted, 0)
        step = step.reshape(-1, *[1] * (value.dim() - step.dim()), *step.shape[1:])
    return rounded(value, step), 0


def to_bfloat16(value: Tensor, step: Tensor) -> Tensor:
    """Return a mean in bfloat16, from which derivatives pass on as if it were not rounded.

    Args:
        value: float32, at least 0.
        step: whole number, 0-dim float32.
    """
    if torch.is_grad_enabled():
        exact = value.detach()
        value = value + (rounded(exact, step) - exact)
    else:
        value = rounded(value, step)
    return value.to(torch.bfloat16)
