"""Messages between neurons: products of a bucket's matrices with the states at their other end."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ngopt.rules.buckets.bucket import Bucket
from ngopt.rules.shards import Shards


class MessageProducts(Protocol):
    """Computes messages along bundles."""

    def products(self, out: Tensor, into: Tensor) -> Sequence[Tensor | None]:
        """See :meth:`BucketMessages.products`."""


class BucketMessages:
    """Computes messages along the bundles of a bucket, in operations of torch.

    Args:
        bucket: the bucket.
        matrices: `(runs, members, group, matrices, out, in)`.
        members: indices of the members that the matrices belong to; all by default.
        shards: processes that have the matrices of the other members, if any.
    """

    def __init__(
        self,
        bucket: Bucket,
        matrices: Tensor,
        members: Sequence[int] | None = None,
        shards: Shards | None = None,
    ) -> None:
        self._bucket, self._matrices, self._shards = bucket, matrices, shards
        self._members = slice(None) if members is None else list(members)

    def products(self, out: Tensor, into: Tensor) -> list[Tensor | None]:
        """Compute the messages to outputs and to inputs.

        Args:
            out: states of the outputs of all bundles, `(runs, outputs, width)`.
            into: of their inputs, `(runs, inputs, width)`.

        Returns:
            Products with the states at the other end, `(runs, lines, matrices, width)`: for
            outputs, then for inputs; None for ends without neurons.
        """
        ends, matrices = self._bucket.members[0].ends, self._matrices
        senders = self._bucket.at_inputs(into), self._bucket.at_outputs(out)
        return [
            self._by_line(matrix @ states[:, self._members].unsqueeze(3)) if end else None
            for end, matrix, states in zip(ends, (matrices, matrices.mT), senders, strict=True)
        ]

    def squares(self) -> Tensor:
        """Mean squares of the matrices of each member, `(runs, members, matrices)`."""
        squares = self._matrices.square().mean((2, 4, 5))
        return self._of_all(squares)

    def _of_all(self, squares: Tensor) -> Tensor:
        """Gather numbers of all members, `(runs, members, ...)`, from all processes."""
        if self._shards is None:
            return squares
        whole = squares.new_zeros(len(squares), len(self._bucket.members), *squares.shape[2:])
        whole[:, self._members] = squares
        return self._shards.add(whole)

    def _by_line(self, products: Tensor) -> Tensor:
        return self._of_all(products.transpose(3, 4)).flatten(1, 3)
