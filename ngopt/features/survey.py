"""Means over the rows, the columns and the whole of a bundle, gathered block by block."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.blocks import FEW, WHOLE, Block, add_columns, add_rows
from ngopt.features.entries import Edges


class Products(NamedTuple):
    """What is averaged: squares, and the product of gradient and fast momentum."""

    adam: Tensor
    gradient: Tensor
    weight: Tensor
    fast: Tensor
    alignment: Tensor
    square: Tensor

    @classmethod
    def of(cls, edges: Edges) -> "Products":
        """Compute the products of each entry."""
        gradient, fast = edges.gradient, edges.moments.fast
        return cls(
            adam=edges.adam.square(),
            gradient=gradient.square(),
            weight=edges.weight.square(),
            fast=fast.square(),
            alignment=gradient * fast,
            square=edges.moments.square,
        )


class Matrices(NamedTuple):
    """The matrices that carry messages: arrays averaged over taps, `(group, out, in)`."""

    weight: Tensor
    adam: Tensor
    fast: Tensor

    @classmethod
    def of(cls, edges: Edges) -> "Matrices":
        """Average over taps."""
        return cls.over_taps(edges.weight, edges.adam, edges.moments.fast)

    @classmethod
    def over_taps(cls, *arrays: Tensor) -> "Matrices":
        """Average arrays `(..., group, out, in, tap)` over taps."""
        # A lone tap is dropped as a view, for the mean would copy the whole array.
        return cls(*(a.squeeze(-1) if a.shape[-1] == 1 else a.mean(-1) for a in arrays))


class Survey(NamedTuple):
    """Means over a bundle.

    Args:
        rows: over inputs and taps, `(group, out)` each.
        columns: over outputs and taps, `(group, in)` each.
        groups: of the mean square over each group, `(group,)`.
        whole: over everything, 0-dim each.
        slow: of the square of the slow momentum over everything, 0-dim.
        matrices: of the squares of the matrices over everything, 0-dim each.
    """

    rows: Products
    columns: Products
    groups: Tensor
    whole: Products
    slow: Tensor
    matrices: Matrices

    @classmethod
    def of(cls, edges: Edges) -> "Survey":
        """Survey a bundle that is there as a whole."""
        surveyor = Surveyor(edges.gradient.shape)
        surveyor.add(WHOLE, edges)
        return surveyor.result()

    @classmethod
    def of_sums(cls, rows: Tensor, columns: Tensor, numbers: Tensor, shape: torch.Size) -> "Survey":
        """Survey a bundle of which the sums are known.

        Args:
            rows: sums over the rows, `(products, group, out)`.
            columns: sums over the columns, `(products, group, in)`.
            numbers: sums of the squares of the slow momentum and of the matrices.
            shape: of the bundle, `(group, out, in, tap)`.
        """
        group, outputs, inputs, taps = shape
        rows, columns = rows / (inputs * taps), columns / (outputs * taps)
        slow, *matrices = numbers
        return cls(
            rows=Products(*rows.unbind()),
            columns=Products(*columns.unbind()),
            groups=rows[Products._fields.index("square")].mean(1),
            whole=Products(*rows.mean((1, 2)).unbind()),
            slow=slow / shape.numel(),
            matrices=Matrices(*(m / (group * outputs * inputs) for m in matrices)),
        )

    def seen_from(self, block: Block) -> "Survey":
        """The same, with only the rows and columns of a block."""
        return self._replace(
            rows=Products(*(block.rows(row) for row in self.rows)),
            columns=Products(*(block.columns(column) for column in self.columns)),
            groups=self.groups[block.group],
        )


class Surveyor:
    """Makes a survey of blocks that come one after the other.

    Args:
        shape: of the bundle, `(group, out, in, tap)`.
    """

    def __init__(self, shape: torch.Size) -> None:
        self._shape = shape
        self._rows: list[Tensor | None] = [None] * len(Products._fields)
        self._columns = list(self._rows)
        self._numbers: Tensor | None = None

    def add(self, block: Block, edges: Edges) -> None:
        """Take the edges of a block into account."""
        for number, (rows, columns) in enumerate(_sums(Products.of(edges))):
            self._rows[number] = add_rows(self._rows[number], block, rows, self._shape)
            self._columns[number] = add_columns(self._columns[number], block, columns, self._shape)
        arrays = (edges.moments.slow, *Matrices.of(edges))
        numbers = torch.stack([array.square().sum() for array in arrays])
        self._numbers = numbers if self._numbers is None else self._numbers + numbers

    def result(self) -> Survey:
        """Return the means over all that was added."""
        rows = torch.stack([row for row in self._rows if row is not None])
        columns = torch.stack([column for column in self._columns if column is not None])
        assert self._numbers is not None
        return Survey.of_sums(rows, columns, self._numbers, self._shape)


def _sums(products: Products) -> Iterable[tuple[Tensor, Tensor]]:
    """Sums of each product over rows, `(group, out)`, and over columns, `(group, in)`."""
    if products.square.numel() > FEW:
        return ((product.sum((2, 3)), product.sum((1, 3))) for product in products)
    stack = torch.stack(products)
    return zip(stack.sum((3, 4)).unbind(), stack.sum((2, 4)).unbind(), strict=True)
