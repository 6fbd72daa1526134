"""Parameters whose rows are spread over processes, and what these tell one another."""

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
        """Those of parameters as FSDP2 has them: all by rows, over the same processes; else None.

        They have to be of float32 and contiguous as wholes.
        """
        first: Any = next(iter(params.values()))
        mesh: Any = getattr(first, "device_mesh", None)
        if mesh is None or mesh.ndim != 1:
            return None
        from torch.distributed.tensor import Shard  # costs 1 s of import time

        for param in params.values():
            rows = param.dim() and getattr(param, "placements", None) == (Shard(0),)
            own: Any = param
            alike = rows and own.device_mesh == mesh and param.dtype == torch.float32
            if not alike or param.stride() != contiguous(param.shape):
                return None
        lengths = tuple((name, param.shape[0]) for name, param in params.items())
        return cls(mesh.get_group(), mesh.get_local_rank(), mesh.size(), lengths)

    def rows(self, rank: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First row of each parameter that a process holds, and the one after the last."""
        lengths = np.array([length for _, length in self.lengths], dtype=np.int64)
        each = -(-lengths // self.size)
        return np.minimum(rank * each, lengths), np.minimum((rank + 1) * each, lengths)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        torch.distributed.all_reduce(tensor, group=self.group)
        return tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """The largest over all processes of each entry of a tensor; infinite for no number."""
        found = torch.nan_to_num(tensor, nan=math.inf, posinf=math.inf)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX, group=self.group)
        return found

    def agree(self, answer: bool, device: torch.device) -> bool:
        """Whether all processes say yes."""
        no = torch.tensor(float(not answer), device=device)
        return not self.add(no).item()

    def exchange(self, given: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Send each process a part of a flat tensor, and return what all of them send here."""
        found = given.new_empty(sum(received))
        torch.distributed.all_to_all_single(found, given, received, sent, group=self.group)
        return found


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    return torch.empty(shape, device="meta").stride()
