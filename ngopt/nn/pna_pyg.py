"""Messages aggregated by `torch_geometric`, on the list of all edges; takes seconds to import."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import Aggregation, MultiAggregation

from ngopt.nn.pna import Messages, Stream, deviation


def aggregate(messages: Messages, aggregators: Sequence[str]) -> Tensor:
    """Aggregate messages; see :data:`ngopt.nn.pna.Aggregate`."""
    modulation = [s.modulation(s.edges).flatten(0, 2) for s in messages.streams]
    index = torch.cat([_index(stream) for stream in messages.streams], 1)
    passing = _passing(tuple(aggregators))
    result: Tensor = passing(index, messages.near, messages.far, torch.cat(modulation))
    return result


def _index(stream: Stream) -> Tensor:
    """The nodes that each message leaves and enters, `(2, edges)`."""
    shape = stream.edges.shape[:-1]
    leaves = stream.out_of.unsqueeze(1).expand(shape).flatten()
    enters = stream.into.unsqueeze(2).expand(shape).flatten()
    return torch.stack([leaves, enters])


class _Passing(MessagePassing):  # type: ignore[misc]  # torch_geometric has no types
    def forward(self, index: Tensor, near: Tensor, far: Tensor, modulation: Tensor) -> Any:
        return self.propagate(index, near=near, far=far, modulation=modulation)

    def message(self, near_i: Tensor, far_j: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.chunk(2, -1)
        return scale * (near_i + far_j) + shift


class _Deviation(Aggregation):  # type: ignore[misc]  # torch_geometric has no types
    """Like `StdAggregation`, which subtracts squares and is constant below a threshold."""

    def forward(
        self,
        x: Tensor,
        index: Tensor,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        mean = self.reduce(x, index, ptr, dim_size, dim, reduce="mean")
        square = (x - mean.index_select(dim, index)).square()
        return deviation(self.reduce(square, index, ptr, dim_size, dim, reduce="mean"))


@cache
def _passing(aggregators: tuple[str, ...]) -> _Passing:
    return _Passing(MultiAggregation([_Deviation() if a == "std" else a for a in aggregators]))
