"""Passes as compiled loops, each over all entries of a bundle at once: fast on the CPU."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.blocks import WHOLE, Block
from ngopt.features.moments import Moments
from ngopt.features.survey import Matrices, Products, Survey
from ngopt.fused.kernel import Computed, Kernel
from ngopt.graph.matrix import Matrix
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.passes.kernels import carry, correct, look, mix, weigh
from ngopt.rules.passes.passes import Corrected, Passes, View
from ngopt.rules.skeleton import Skeleton

MANY_TAPS = 8
"""Number of taps from which the matrices that carry messages take less than two bytes per entry."""


class Plane(NamedTuple):
    """How the memory of a bundle's arrays is a matrix.

    Args:
        shape: of the arrays, `(1, out, in, tap)`.
        turned: whether the rows of that matrix are the inputs.
    """

    shape: torch.Size
    turned: bool

    @classmethod
    def of(cls, arrays: Sequence[Tensor]) -> "Plane | None":
        """The plane of arrays that are laid out alike; None if their memory is no such matrix."""
        shape = arrays[0].shape
        if shape[0] != 1 or not shape.numel():
            return None
        straight = all(array.is_contiguous() for array in arrays)
        turned = shape[3] == 1 and all(a.transpose(1, 2).is_contiguous() for a in arrays)
        if not (straight or turned):
            return None
        # One long row is faster than many rows of one entry.
        return cls(shape, turned and not (straight and shape[2] > 1))

    @property
    def sides(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        _, out, into, taps = self.shape
        return (into, out) if self.turned else (out, into * taps)

    def flat(self, array: Tensor) -> Tensor:
        """An array in the order of the matrix."""
        return (array.transpose(1, 2) if self.turned else array).contiguous()

    def array(self, flat: Tensor) -> Tensor:
        """The array of a matrix."""
        if self.turned:
            return flat.view(1, self.shape[2], self.shape[1], 1).transpose(1, 2)
        return flat.view(self.shape)

    def ends(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of rows and columns, `(n, rows)` and `(n, columns)`, of `out` and `in`."""
        if self.turned:
            return columns, rows
        return rows, columns.view(-1, self.shape[2], self.shape[3]).sum(2)

    def spread(self, out: Tensor, into: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of `out` and `in`, of each row and each column."""
        if self.turned:
            return into.contiguous(), out.contiguous()
        taps = self.shape[3]
        columns = into if taps == 1 else into.repeat_interleave(taps, -1)
        return out.contiguous(), columns.contiguous()


class FusedPasses(Passes):
    """Passes over arrays that lie in memory as one matrix.

    Args:
        plane: how they lie.
        weight: entries of the parameter, float32.
        gradient: their gradient, float32.
        state: `step`, before this one, and the arrays of the moments.
        skeleton: of the rule.
        head: network of the entries.
        graph: whether there are messages.
        keep: whether to keep the matrices that carry them.
    """

    def __init__(
        self,
        plane: Plane,
        weight: Tensor,
        gradient: Tensor,
        state: Mapping[str, Tensor],
        skeleton: Skeleton,
        head: EntryHead,
        graph: bool,
        keep: bool,
    ) -> None:
        self._plane, self._weight = plane, weight
        self._skeleton, self._head, self._graph = skeleton, head, graph
        # Sums over many taps take little memory, and long to compute.
        self._keep = keep or plane.shape[3] >= MANY_TAPS
        moments = [state[key] for key in Moments._fields]
        self._known = [weight, gradient, state["step"], *moments]
        self._dtypes = tuple(moment.dtype for moment in moments)
        self._matrices: Matrices | None = None

    @property
    def shape(self) -> torch.Size:
        """Of the bundle, `(group, out, in, tap)`."""
        return self._plane.shape

    def survey(self) -> tuple[Survey, Tensor]:
        """Survey of the bundle, and the mean square of its base direction."""
        found = self._run(look(self._skeleton, self._dtypes), [])
        out, into = self._plane.ends(found.rows, found.columns)
        slow, square = found.sums
        numbers = torch.stack([slow, *self._squares(found.rows)])
        survey = Survey.of_sums(out.unsqueeze(1), into.unsqueeze(1), numbers, self.shape)
        return survey, square / self.shape.numel()

    def _squares(self, rows: Tensor) -> list[Tensor]:
        """Sums of the squares of the matrices; zeros where there are no messages."""
        if not self._graph:
            return [rows.new_zeros(())] * len(Matrices._fields)
        if self.shape[3] == 1:
            sums = Products(*rows.sum(1))
            return [sums.weight, sums.adam, sums.fast]
        ((_, matrices),) = self.matrices()
        return [matrix.square().sum() for matrix in matrices]

    def matrices(self) -> Iterator[tuple[Block, Matrices]]:
        """The matrices that carry messages, as one block."""
        matrices = self._matrices
        if matrices is None:
            stored = self._run(carry(self._dtypes), []).stored
            arrays = [self._weight, *(self._plane.array(flat) for flat in stored)]
            matrices = Matrices.over_taps(*arrays)
            self._matrices = matrices if self._keep else None
        yield WHOLE, matrices

    def corrected(self, matrix: Matrix | None, view: View, watched: bool) -> Corrected:
        """The base direction, corrected."""
        self._matrices = None
        given: list[Tensor] = []
        if matrix is not None:
            whole = self._plane.flat(self._orthogonalized(matrix))
            (weighed,) = self._run(weigh(self._skeleton, self._dtypes), [whole]).sums
            given = [whole, self._skeleton.rescale(view.scales.base, weighed / self.shape.numel())]
        given += [view.scales.base, view.scales.fast, view.scales.weight]
        given += self._plane.spread(*(factor[0] for factor in view.scales.factors))
        given += self._head.flat_numbers(view.context)
        if view.neurons:
            given += self._plane.spread(*self._head.heard(*(n[0] for n in view.neurons)))
        kernel = correct(
            self._skeleton,
            self._dtypes,
            self._head.hidden,
            matrix is not None,
            bool(view.neurons),
            watched,
        )
        found = self._run(kernel, given)
        direction, *moments = (self._plane.array(flat) for flat in found.stored)
        corrections = moments.pop() if watched else None
        after = dict(zip(Moments._fields, moments, strict=True))
        return Corrected(direction, found.sums[0] / self.shape.numel(), after, corrections)

    def _orthogonalized(self, matrix: Matrix) -> Tensor:
        # The momentum is gone when this returns: what is computed next takes its memory.
        (momentum,) = self._run(mix(self._skeleton, self._dtypes), []).stored
        return self._skeleton.orthogonalized(self._plane.array(momentum), matrix)

    def _run(self, kernel: Kernel, given: Sequence[Tensor]) -> Computed:
        return kernel(*self._plane.sides, [*self._known, *given])
