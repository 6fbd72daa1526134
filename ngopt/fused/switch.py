"""Whether compiled loops are used, and the one warning where they cannot be."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ngopt.fused.build import NoCompilerError

_off = os.environ.get("NGOPT_FUSED") == "0"


@contextmanager
def plain() -> Iterator[None]:
    """Use no compiled loops for a while."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def fusible(tensors: list[Tensor]) -> bool:
    """Whether compiled loops may read these tensors: nothing but numbers in the CPU's memory.

    They take no part in derivatives, in transformations by `torch.func`, in compiled code, and in
    anything that watches single operations of torch.
    """
    return not (
        _off
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or any(
            type(tensor) not in (Tensor, torch.nn.Parameter)
            or tensor.device.type != "cpu"
            or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
            for tensor in tensors
        )
    )


def give_up(reason: NoCompilerError) -> None:
    """Say why compiled loops cannot be used, and use none from now on."""
    global _off
    _off = True
    warnings.warn(
        f"steps are slower than they could be: loops cannot be compiled, for {reason}. "
        "Install a C compiler such as gcc, or set NGOPT_FUSED=0 to do without and hear nothing "
        "of it.",
        stacklevel=2,
    )
