"""Row and column means of squared gradients, as in Adafactor, by the names of axes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout

FLOOR = 1e-9
"""Below which a mean of squares, or its ratio to the mean of all, counts as this."""

Rate = float | Tensor
"""Part of the way that a running mean goes towards a new value: 1 minus its decay."""


class Factors(NamedTuple):
    """Running means of the squared gradients of one bundle, one per rate.

    Args:
        rows: `(rates, group, out, in, tap)`, averaged over the larger of `out` and `in`, which
            then has size 1.
        columns: the same, averaged over the smaller. Where nothing is averaged, both are the same.
        whole: the dimension of the array that `columns` was averaged over; none if nothing was.
    """

    rows: Tensor
    columns: Tensor
    whole: int | None

    def scale(self) -> Tensor:
        """Estimate of one over the root of the mean squares, `(rates, group, out, in, tap)`."""
        if self.whole is None:
            return (self.rows + FLOOR).clamp(min=FLOOR).rsqrt()
        mean = self.rows.mean(self.whole + 1, keepdim=True)
        rows = (self.rows / (mean + FLOOR)).clamp(min=FLOOR).rsqrt()
        return rows * self.columns.clamp(min=FLOOR).rsqrt()


def averaged(bundle: Bundle) -> tuple[int, int] | None:
    """Dimensions of the array `(group, out, in, tap)` that are averaged over.

    Returns:
        The larger of `out` and `in`, `out` if they are alike, which rows are averaged over, and
        the other, for columns. None for a bundle that lacks one of them, such as a bias.
    """
    if not {"out", "in"} <= set(bundle.roles):
        return None
    _, outputs, inputs, _ = bundle.shape
    return (2, 1) if inputs > outputs else (1, 2)


def factor_sizes(layout: Layout) -> tuple[int, int]:
    """Numbers of rows and of columns of all bundles of a parameter.

    The running state is `(rates, rows)` and `(rates, columns)`: all bundles behind one another.
    """
    rows, columns = _sizes(layout)
    return sum(rows), sum(columns)


def update_factors(
    rows: Tensor, columns: Tensor, gradient: Tensor, layout: Layout, rates: Sequence[Rate]
) -> tuple[Tensor, Tensor]:
    """Take one gradient into the running means.

    Args:
        rows: `(rates, rows)`; left as it is.
        columns: `(rates, columns)`; left as it is.
        gradient: of the parameter's shape.
        layout: of the parameter.
        rates: of each running mean.

    Returns:
        The new `rows` and `columns`.
    """
    new: tuple[list[Tensor], list[Tensor]] = ([], [])
    for bundle, array in zip(layout.bundles, layout.views(gradient), strict=True):
        square = array.square() + 1e-30
        dims = averaged(bundle)
        new[0].append((square.mean(dims[0]) if dims else square).flatten())
        if dims:
            new[1].append(square.mean(dims[1]).flatten())
    return _toward(rows, new[0], rates), _toward(columns, new[1], rates)


def split_factors(rows: Tensor, columns: Tensor, layout: Layout) -> list[Factors]:
    """Return the factors of each bundle: views of the running state."""
    sizes = _sizes(layout)
    parts = (torch.split(rows, sizes[0], -1), torch.split(columns, sizes[1], -1))
    result = []
    for bundle, row, column in zip(layout.bundles, *parts, strict=True):
        dims = averaged(bundle)
        of_rows, of_columns = _shapes(bundle)
        row = torch.unflatten(row, -1, of_rows)
        column = torch.unflatten(column, -1, of_columns) if dims else row
        result.append(Factors(row, column, dims and dims[1]))
    return result


def _sizes(layout: Layout) -> tuple[list[int], list[int]]:
    shapes = [_shapes(bundle) for bundle in layout.bundles]
    return [math.prod(rows) for rows, _ in shapes], [math.prod(columns) for _, columns in shapes]


def _shapes(bundle: Bundle) -> tuple[tuple[int, ...], tuple[int, ...]]:
    dims = averaged(bundle)
    if dims is None:
        return bundle.shape, (0,)
    first, second = (
        tuple(1 if dim == gone else size for dim, size in enumerate(bundle.shape)) for gone in dims
    )
    return first, second


def _toward(state: Tensor, new: Sequence[Tensor], rates: Sequence[Rate]) -> Tensor:
    if not new:
        return state
    value = torch.cat(list(new))
    pairs = zip(state.to(value.dtype).unbind(0), rates, strict=True)
    return torch.stack([torch.lerp(mean, value, rate) for mean, rate in pairs])
