"""Whether compiled loops are used, and the one warning where they cannot be."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ngopt.backends.cpu.build import NoCompilerError

_eager = os.environ.get("NGOPT_BACKEND") == "eager"
_off = os.environ.get("NGOPT_FUSED") == "0" or _eager


@contextmanager
def plain() -> Iterator[None]:
    """Use no compiled loops for a while."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@contextmanager
def eager() -> Iterator[None]:
    """Step on the CPU as on other devices for a while: `NGOPT_BACKEND=eager`."""
    global _eager
    before, _eager = _eager, True
    try:
        with plain():
            yield
    finally:
        _eager = before


def in_buckets(tensors: Iterable[Tensor]) -> bool:
    """Whether the number of operations counts: on all devices but the CPU."""
    return _eager or any(tensor.device.type != "cpu" for tensor in tensors)


def fusible(tensors: Sequence[Tensor]) -> bool:
    """Whether compiled loops may read these tensors: nothing but numbers in the CPU's memory.

    They take no part in derivatives, in transformations by `torch.func`, in compiled code, and in
    anything that watches single operations of torch.
    """
    return not (
        _off
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
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
