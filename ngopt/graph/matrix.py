"""Parameters as matrices, for what is done with singular values."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout


class Matrix(NamedTuple):
    """A bundle as matrices `(group, rows, columns)`.

    Args:
        bundle: the bundle.
        order: its dimensions in the order of the matrices.
        shape: of the matrices.
        columns: how many of the dimensions make up the columns.
    """

    bundle: Bundle
    order: tuple[int, ...]
    shape: tuple[int, int, int]
    columns: int

    @classmethod
    def of(cls, bundle: Bundle) -> "Matrix":
        """Count taps on an axis of outputs among the rows, and all others among the columns."""
        parts = list(zip(bundle.axes, bundle.roles, strict=True))
        outputs = {axis for axis, role in parts if role == "out"} or {0}
        # The groups of a depthwise convolution, which has no inputs, are its rows.
        group = 0 if "in" in bundle.roles else 1
        places = {"group": group, "out": 1, "in": 2}
        place = [places.get(role, 1 if axis in outputs else 2) for axis, role in parts]
        order = sorted(range(len(parts)), key=place.__getitem__)
        sizes = [1, 1, 1]
        for size, number in zip(bundle.sizes, place, strict=True):
            sizes[number] *= size
        return cls(bundle, tuple(order), (sizes[0], sizes[1], sizes[2]), place.count(2))

    def view(self, array: Tensor) -> Tensor:
        """The matrices of an array `(..., group, out, in, tap)`, `(..., group, rows, columns)`."""
        lead, order = array.shape[:-4], self.bundle.order
        unfolded = array.reshape(*lead, *(self.bundle.sizes[d] for d in order))
        return _moved(unfolded, order, self.order).reshape(*lead, *self.shape)

    def array(self, matrices: Tensor) -> Tensor:
        """Inverse of :meth:`view`."""
        lead, order = matrices.shape[:-3], self.bundle.order
        unfolded = matrices.reshape(*lead, *(self.bundle.sizes[d] for d in self.order))
        return _moved(unfolded, self.order, order).reshape(*lead, *self.bundle.shape)


def _moved(tensor: Tensor, order: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Bring the last dimensions, which are in one order, into another."""
    first = tensor.dim() - len(order)
    return tensor.permute(*range(first), *(first + order.index(d) for d in wanted))


def matrices(layout: Layout) -> list[Matrix]:
    """The matrices that a parameter is made of, one or a stack of groups for each bundle.

    Returns:
        An empty list for embeddings, norms and whatever has no columns, such as biases.
    """
    if len(layout.shape) < 2 or layout.kind in ("embedding", "normalization"):
        return []
    found = [Matrix.of(bundle) for bundle in layout.bundles]
    return found if all(matrix.columns for matrix in found) else []
