"""How steps are done on which device, and the one warning where loops cannot be compiled."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

Method = TypeVar("Method", bound=Callable[..., Any])

_eager = os.environ.get("NGOPT_BACKEND") == "eager"
_interpreted = False
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


@contextmanager
def interpreted() -> Iterator[None]:
    """Step on the CPU by the kernels of GPUs for a while; Triton has to interpret them."""
    global _interpreted
    before, _interpreted = _interpreted, True
    try:
        with plain():
            yield
    finally:
        _interpreted = before


def known_at_once(tensor: Tensor) -> bool:
    """Whether it costs nothing to read a tensor's value; elsewhere one would wait for a device."""
    return tensor.device.type == "cpu" and not (_eager or _interpreted)


def capturing(device: torch.device) -> bool:
    """Whether what happens on a device now becomes part of a CUDA graph.

    Then nothing can be read from it, nor be copied to it but from memory that stays.
    """
    # Tensors may only pretend to be on a GPU.
    available = device.type == "cuda" and torch.cuda.is_available()
    return available and torch.cuda.is_current_stream_capturing()


def on_gpu(tensors: Sequence[Tensor]) -> bool:
    """Whether the kernels of GPUs may read these tensors: nothing but numbers in its memory.

    They add up in any order, so not where results have to be the same to the last bit.
    """
    device = "cpu" if _interpreted else "cuda"
    other = any(_is_other(tensor, device) for tensor in tensors)
    off = _off and not _interpreted
    return not (off or _watched() or torch.are_deterministic_algorithms_enabled() or other)


def fusible(tensors: Sequence[Tensor]) -> bool:
    """Whether compiled loops may read these tensors: nothing but numbers in the CPU's memory.

    They take no part in derivatives, in transformations by `torch.func`, in compiled code, and in
    anything that watches single operations of torch.
    """
    return not (_off or _watched() or any(_is_other(tensor, "cpu") for tensor in tensors))


def _watched() -> bool:
    """Whether somebody has to know of each operation of torch."""
    return (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _is_other(tensor: Tensor, device: str) -> bool:
    return (
        type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.device.type != device
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def give_up(reason: Exception, remedy: str = "Install a C compiler such as gcc") -> None:
    """Say why compiled loops cannot be used, and use none from now on."""
    global _off
    _off = True
    warnings.warn(
        f"steps are slower than they could be: loops cannot be compiled, for {reason}. "
        f"{remedy}, or set NGOPT_FUSED=0 to do without and hear nothing of it.",
        stacklevel=2,
    )


def uncompiled(method: Method) -> Method:
    """Decorate a function that `torch.compile` must not look into.

    This is how torch's own optimizers do it: `torch.compiler.disable` would import the compiler
    (2 s) now.
    """
    return cast(Method, _disable_dynamo(method))
