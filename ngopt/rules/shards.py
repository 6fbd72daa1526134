"""Shards: parameters whose rows are sharded over processes, and their communication."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Shards:
    """Which rows of each parameter each process holds.

    Args:
        group: of the processes.
        rank: of this one.
        size: number of processes.
        lengths: name of each parameter and size of its first dimension.
    """

    group: Any
    rank: int
    size: int
    lengths: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> "Shards | None":
        """Return the shards of parameters under FSDP2.

        None unless all are sharded by rows over the same processes, in float32 and contiguous.
        """
        first: Any = next(iter(params.values()))
        mesh: Any = getattr(first, "device_mesh", None)
        if mesh is None or mesh.ndim != 1:
            return None
        from torch.distributed.tensor import Shard  # costs 1 s of import time

        for param in params.values():
            rows = param.dim() and getattr(param, "placements", None) == (Shard(0),)
            own: Any = param
            supported = rows and own.device_mesh == mesh and param.dtype == torch.float32
            if not supported or param.stride() != contiguous(param.shape):
                return None
        lengths = tuple((name, param.shape[0]) for name, param in params.items())
        return cls(mesh.get_group(), mesh.get_local_rank(), mesh.size(), lengths)

    def rows(self, rank: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First local row of each parameter in a process, and the row after the last."""
        lengths = np.array([length for _, length in self.lengths], dtype=np.int64)
        rows = -(-lengths // self.size)
        return np.minimum(rank * rows, lengths), np.minimum((rank + 1) * rows, lengths)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        torch.distributed.all_reduce(tensor, group=self.group)
        return tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """Maximum of each entry of a tensor over all processes; infinite for NaN."""
        found = torch.nan_to_num(tensor, nan=math.inf, posinf=math.inf)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX, group=self.group)
        return found

    def agree(self, answer: bool, device: torch.device) -> bool:
        """Whether the answer is true in all processes."""
        no = torch.tensor(float(not answer), device=device)
        return not self.add(no).item()

    def exchange(self, given: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Send a part of a flat tensor to each process, and return the parts received from all."""
        found = given.new_empty(sum(received))
        torch.distributed.all_to_all_single(found, given, received, sent, group=self.group)
        return found


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()
