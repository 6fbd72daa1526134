"""Dispatch: which code runs a step on which device, and the warning where C cannot be compiled."""

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

Method = TypeVar("Method", bound=Callable[..., Any])

PLAIN = frozenset((Tensor, torch.nn.Parameter))
"""Types of tensors that are certainly not sharded."""

_eager = os.environ.get("NGOPT_BACKEND") == "eager"
_interpreted = False
_off = os.environ.get("NGOPT_FUSED") == "0" or _eager


@contextmanager
def without_loops() -> Iterator[None]:
    """Context in which no compiled loops are used."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


@contextmanager
def eager() -> Iterator[None]:
    """Context in which the CPU is treated like other devices: `NGOPT_BACKEND=eager`."""
    global _eager
    before, _eager = _eager, True
    try:
        with without_loops():
            yield
    finally:
        _eager = before


def minimizes_operations(tensors: Iterable[Tensor]) -> bool:
    """Whether few large operations are best: on all devices but the CPU."""
    return _eager or any(there.type != "cpu" for there in {tensor.device for tensor in tensors})


@contextmanager
def interpreted() -> Iterator[None]:
    """Context in which the CPU runs the kernels for GPUs, interpreted by Triton."""
    global _interpreted
    before, _interpreted = _interpreted, True
    try:
        with without_loops():
            yield
    finally:
        _interpreted = before


def is_free_to_read(tensor: Tensor) -> bool:
    """Whether a tensor's value can be read without waiting for a device."""
    return tensor.device.type == "cpu" and not (_eager or _interpreted)


def capturing(device: torch.device) -> bool:
    """Whether operations on a device are being captured in a CUDA graph.

    Then nothing can be read from the device, and copies to it need memory that stays.
    """
    # Fake tensors may claim to be on a GPU.
    available = device.type == "cuda" and torch.cuda.is_available()
    return available and torch.cuda.is_current_stream_capturing()


def can_use_gpu_kernels(tensors: Sequence[Tensor]) -> bool:
    """Whether Triton kernels can read these tensors: plain tensors in GPU memory.

    Kernels add up in any order, so not where deterministic results are asked for.
    """
    device = "cpu" if _interpreted else "cuda"
    off = (_off and not _interpreted) or torch.are_deterministic_algorithms_enabled()
    return not (off or _needs_operations()) and are_plain(tensors, device)


def can_use_cpu_loops(tensors: Sequence[Tensor]) -> bool:
    """Whether loops in C can read these tensors: plain tensors in CPU memory.

    Loops do not support derivatives, transformations by `torch.func`, compiled code, and modes that
    intercept single operations of torch.
    """
    return not (_off or _needs_operations()) and are_plain(tensors, "cpu")


def _needs_operations() -> bool:
    """Whether each operation has to be one of torch's."""
    return (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def are_plain(tensors: Collection[Tensor], device: str) -> bool:
    """Whether tensors are in the memory of a kind of device, and no more than that.

    Not plain are sharded tensors, fake ones, and those that `torch.func` has wrapped.
    """
    return (
        PLAIN.issuperset(map(type, tensors))
        and all(there.type == device for there in {tensor.device for tensor in tensors})
        and not any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))
    )


def disable(reason: Exception, remedy: str = "Install a C compiler such as gcc") -> None:
    """Warn why compiled loops cannot be used, and use none from now on."""
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
