"""Backends: what compiles loops over entries, for the CPU and for GPUs."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ngopt.backends import dispatch
from ngopt.backends.cpu.kernel import Kernel
from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.backends.kernel import CompileError, Make
from ngopt.backends.triton import kernel as triton_kernel

AT_ONCE = 2**20
"""Number of entries that a batch of loops handles at once on the CPU."""

ON_GPU = 2**26
"""The same on GPUs."""


@dataclass(frozen=True)
class Backend:
    """What loops are made with.

    Args:
        make: makes a loop.
        at_once: number of entries that a batch of loops handles at once, unless a bundle has more.
        compiled: whether other functions in C may be used beside the loops, and copies are cheap.
        remedy: what to do where a loop cannot be compiled.
    """

    make: Make
    at_once: int
    compiled: bool
    remedy: str

    def disable(self, reason: Exception) -> None:
        """Warn why a loop cannot be compiled, and make none from now on."""
        dispatch.disable(reason, self.remedy)


CPU = Backend(Kernel, AT_ONCE, True, "Install a C compiler such as gcc")
GPU = Backend(triton_kernel.Kernel, ON_GPU, False, "Install the Triton that belongs to this torch")


def backend_for(tensors: Sequence[Tensor]) -> Backend | None:
    """What makes loops over some tensors.

    Returns:
        None where there can be none; says so once if only a compiler is missing.
    """
    if dispatch.can_use_cpu_loops(tensors):
        return _of_cpu()
    if dispatch.can_use_gpu_kernels(tensors) and importlib.util.find_spec("triton"):
        return _of_gpu(tensors[0].device)
    return None


@cache
def _of_cpu() -> Backend | None:
    try:
        Kernel(lambda x: [x], [Argument(ArgumentShape.ENTRY)], [Result((Use.STORE,))])
    except CompileError as reason:
        CPU.disable(reason)
        return None
    return CPU


@cache
def _of_gpu(device: torch.device) -> Backend | None:
    try:
        triton_kernel.probe(device)
    except Exception as reason:  # noqa: BLE001 - whatever may be wrong with drivers and compilers
        GPU.disable(reason)
        return None
    return GPU
