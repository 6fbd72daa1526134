"""Products of matrices that are symmetric: one half of them is enough."""

import ctypes
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ngopt.backends.cpu.build import NoCompilerError, load
from ngopt.backends.switch import fusible, give_up

LEAST = 2**23
"""Number of multiplications from which half of them take less time here than all of them in torch,
on one thread. Where torch has several, which this has not, it is left to torch."""


def symmetric_product(
    left: Tensor,
    right: Tensor,
    added: Tensor | None = None,
    *,
    beta: float = 1.0,
    alpha: float = 1.0,
) -> Tensor:
    """Return `alpha * left @ right + beta * added`, which is known to be symmetric.

    Args:
        left: first factors, `(matrices, rows, columns)`.
        right: second factors, `(matrices, columns, rows)`: the same turned, for example, or
            another symmetric matrix that the first commutes with.
        added: symmetric, `(matrices, rows, rows)`.
        beta: factor of that.
        alpha: factor of the product.

    Returns:
        `(matrices, rows, rows)`.
    """
    run = _run() if _worthwhile(left, right, added) else None
    if run is None:
        if added is None:
            product = left @ right
            return product if alpha == 1 else alpha * product
        return torch.baddbmm(added, left, right, beta=beta, alpha=alpha)
    count, rows, columns = left.shape
    out = left.new_empty(count, rows, rows)
    # Where nothing is added, this is not read.
    more = left if added is None else added.contiguous()
    beta = 0.0 if added is None else beta
    constants = _constants(alpha, beta, *left.stride()[1:], *right.stride()[1:])
    for number in range(count):
        inputs = [left[number], right[number], more[number], *constants]
        _launch(run, rows, columns, inputs, out[number])
    return out


def _launch(run: Any, rows: int, columns: int, inputs: list[Tensor], out: Tensor) -> None:
    given = (ctypes.c_void_p * len(inputs))(*(tensor.data_ptr() for tensor in inputs))
    run(rows, columns, given, (ctypes.c_void_p * 1)(out.data_ptr()))


def _worthwhile(left: Tensor, right: Tensor, added: Tensor | None) -> bool:
    _, rows, columns = left.shape
    tensors = [left, right] if added is None else [left, right, added]
    return (
        rows * rows * columns >= LEAST
        and torch.get_num_threads() == 1
        and all(tensor.dtype == torch.float32 for tensor in tensors)
        and fusible(tensors)
    )


@cache
def _run() -> Any:
    """The compiled loop; None if it cannot be compiled."""
    try:
        source = files("ngopt.backends.cpu").joinpath("symmetric.c").read_text(encoding="utf-8")
        return load(source, "-ffp-contract=fast", sizes=2, pointers=2)
    except NoCompilerError as reason:
        give_up(reason)
        return None


@cache
def _constants(alpha: float, beta: float, *strides: int) -> tuple[Tensor, Tensor]:
    """Factors and strides, as the loop reads them."""
    return torch.tensor([alpha, beta], dtype=torch.float32), torch.tensor(strides)
