"""Which loops over entries there are for which tensors."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ngopt.backends import switch
from ngopt.backends.cpu.kernel import Kernel
from ngopt.backends.function import Argument, Kind, Result, Use
from ngopt.backends.kernel import CompileError, Make
from ngopt.backends.triton import kernel as triton_kernel

AT_ONCE = 2**20
"""Number of entries whose directions are there at once on the CPU."""

ON_GPU = 2**26
"""The same on GPUs."""


@dataclass(frozen=True)
class Backend:
    """What loops are made with.

    Args:
        make: makes a loop.
        at_once: number of entries whose directions are there at once, unless one bundle has more.
        compiled: whether other functions in C may be used beside the loops, and copies are cheap.
        remedy: what to do where a loop cannot be compiled.
    """

    make: Make
    at_once: int
    compiled: bool
    remedy: str

    def give_up(self, reason: Exception) -> None:
        """Say why a loop cannot be compiled, and make none from now on."""
        switch.give_up(reason, self.remedy)


CPU = Backend(Kernel, AT_ONCE, True, "Install a C compiler such as gcc")
GPU = Backend(triton_kernel.Kernel, ON_GPU, False, "Install the Triton that belongs to this torch")


def backend_for(tensors: Sequence[Tensor]) -> Backend | None:
    """What makes loops over some tensors.

    Returns:
        None where there can be none; says so once if only a compiler is missing.
    """
    if switch.fusible(tensors):
        return _of_cpu()
    if switch.on_gpu(tensors) and importlib.util.find_spec("triton"):
        return _of_gpu(tensors[0].device)
    return None


@cache
def _of_cpu() -> Backend | None:
    try:
        Kernel(lambda x: [x], [Argument(Kind.ENTRY)], [Result((Use.STORE,))])
    except CompileError as reason:
        CPU.give_up(reason)
        return None
    return CPU


@cache
def _of_gpu(device: torch.device) -> Backend | None:
    try:
        triton_kernel.probe(device)
    except Exception as reason:  # noqa: BLE001 - whatever may be wrong with drivers and compilers
        GPU.give_up(reason)
        return None
    return GPU
