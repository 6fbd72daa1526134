"""Batches of a data set, epoch after epoch."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def epochs(
    tensors: Sequence[Tensor], size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches without end; each epoch has its own order and drops its last, smaller batch.

    Args:
        tensors: whose first dimension runs over samples.
        size: of a batch.
        generator: of the orders.

    >>> batches = epochs([torch.arange(5)], 2, torch.Generator().manual_seed(0))
    >>> [len(next(batches)[0]) for _ in range(5)]
    [2, 2, 2, 2, 2]
    """
    count = len(tensors[0])
    while True:
        order = torch.randperm(count, generator=generator)
        for rows in order[: count - count % size].split(size):
            yield tuple(tensor[rows] for tensor in tensors)
