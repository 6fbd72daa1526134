"""Passes by operations of torch, block by block: differentiable, on any device."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ngopt.features.blocks import Block
from ngopt.features.entries import entry_features
from ngopt.features.moments import Moments
from ngopt.features.strand import Strand
from ngopt.features.survey import Matrices, Survey, Surveyor
from ngopt.graph.matrix import Matrix
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.passes.passes import Corrected, Passes, View
from ngopt.rules.skeleton import Skeleton


class PlainPasses(Passes):
    """Passes over a strand.

    Args:
        strand: the bundle's arrays.
        step: number of gradients so far, with this one, 0-dim.
        skeleton: of the rule.
        head: network of the entries.
    """

    def __init__(self, strand: Strand, step: Tensor, skeleton: Skeleton, head: EntryHead) -> None:
        self._strand, self._step, self._skeleton, self._head = strand, step, skeleton, head

    @property
    def shape(self) -> torch.Size:
        """Of the bundle, `(group, out, in, tap)`."""
        return self._strand.shape

    def survey(self) -> tuple[Survey, Tensor]:
        """Survey of the bundle, and the mean square of its base direction."""
        surveyor = Surveyor(self.shape)
        squares = []
        for block, edges, _ in self._strand:
            surveyor.add(block, edges)
            base = self._skeleton.base(edges.adam, edges.slow, edges.relative, self._step)
            squares.append(base.square().sum())
        return surveyor.result(), sum(squares[1:], squares[0]) / self.shape.numel()

    def matrices(self) -> Iterator[tuple[Block, Matrices]]:
        """The matrices that carry messages, block by block."""
        return self._strand.matrices()

    def corrected(self, matrix: Matrix | None, view: View, watched: bool) -> Corrected:
        """The base direction, corrected."""
        like, skeleton = self._strand.gradient, self._skeleton
        whole = None if matrix is None else self._orthogonalized(matrix, view.scales.base)
        direction: Tensor | None = None
        corrections: Tensor | None = None
        after: dict[str, Tensor] = {}
        squares = []
        for block, edges, state in self._strand:
            if whole is None:
                base = skeleton.base(edges.adam, edges.slow, edges.relative, self._step)
            else:
                base = block.of(whole)
            entries = entry_features(edges, base, view.scales.seen_from(block))
            neurons = zip(view.neurons, (block.rows, block.columns), strict=False)
            correction = self._head(entries, view.context, *(of(states) for states, of in neurons))
            correction = skeleton.gate(correction, edges.moments)
            if watched:
                corrections = block.put(corrections, correction, like)
            corrected = skeleton.correct(base, correction, view.scales.base, self._step)
            squares.append(corrected.square().sum())
            direction = block.put(direction, corrected, like)
            for key in Moments._fields:
                after[key] = block.put(after.get(key), state[key], like)
        assert direction is not None
        square = sum(squares[1:], squares[0]) / like.numel()
        return Corrected(direction, square, after, corrections)

    def _orthogonalized(self, matrix: Matrix, square: Tensor) -> Tensor:
        """Base direction of a whole matrix."""
        like = self._strand.gradient
        momentum: Tensor | None = None
        for block, edges, _ in self._strand:
            fast, slow, _ = edges.moments
            mixture = self._skeleton.base(fast, slow, edges.gradient, self._step)
            momentum = block.put(momentum, mixture, like)
        assert momentum is not None
        whole = self._skeleton.orthogonalized(momentum, matrix)
        direction: Tensor | None = None
        for block, edges, _ in self._strand:
            gated = self._skeleton.gate(block.of(whole), edges.moments)
            direction = block.put(direction, gated, like)
        assert direction is not None
        return direction * self._skeleton.rescale(square, direction.square().mean())
