"""A bundle whose edges are computed block by block when asked for, so that few exist at a time."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ngopt.features.blocks import Block, blocks
from ngopt.features.entries import Edges
from ngopt.features.moments import Moments, update_moments
from ngopt.features.survey import Matrices

State = dict[str, Tensor]


class Strand:
    """The arrays of one bundle at one step.

    Args:
        weight: entries of the parameter, `(group, out, in, tap)`.
        gradient: their gradient.
        state: `step`, 0-dim, and the arrays of the moments before this step.
        dtype: in which edges are computed.
        keep: whether to keep edges once they are computed.
    """

    def __init__(
        self,
        weight: Tensor,
        gradient: Tensor,
        state: Mapping[str, Tensor],
        dtype: torch.dtype,
        keep: bool,
    ) -> None:
        self.weight, self.gradient, self.state = weight, gradient, dict(state)
        self.blocks = blocks(gradient)
        self._dtype = dtype
        self._kept: dict[int, tuple[Edges, State]] | None = {} if keep else None

    def __iter__(self) -> Iterator[tuple[Block, Edges, State]]:
        """Yield each block, its edges, and its part of the state after this step."""
        for number, block in enumerate(self.blocks):
            if self._kept is None:
                yield block, *self._edges(block)
            else:
                if number not in self._kept:
                    self._kept[number] = self._edges(block)
                yield block, *self._kept[number]

    @property
    def shape(self) -> torch.Size:
        """Of the bundle, `(group, out, in, tap)`."""
        return self.gradient.shape

    def matrices(self) -> Iterator[tuple[Block, Matrices]]:
        """The matrices that carry messages, block by block."""
        for block, edges, _ in self:
            yield block, Matrices.of(edges)

    def _edges(self, block: Block) -> tuple[Edges, State]:
        gradient = block.of(self.gradient).to(self._dtype)
        before = {k: block.of(v) if v.dim() else v for k, v in self.state.items()}
        after, moments = update_moments(before, gradient)
        weight = block.of(self.weight).to(self._dtype)
        return Edges.of(weight, gradient, Moments(*(m.to(self._dtype) for m in moments))), after
