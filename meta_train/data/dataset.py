"""Data sets in memory: images as they are published, and samples in three splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in three splits.

    Args:
        name: of the data set.
        splits: `train`, `held_out` and `test`; each a tuple of tensors whose first dimension runs
            over samples, such as images (n, channels, height, width) and labels (n,).
        classes: number of classes, or 0 if the targets are no classes.
    """

    name: str
    splits: Mapping[str, tuple[Tensor, ...]]
    classes: int = 0

    def sample(
        self, runs: int, size: int, generator: torch.Generator, split: str
    ) -> tuple[Tensor, ...]:
        """Draw batches with replacement: each tensor is (runs, size, ...)."""
        tensors = self.splits[split]
        index = torch.randint(len(tensors[0]), (runs, size), generator=generator)
        index = index.to(tensors[0].device, non_blocking=True)
        return tuple(tensor[index] for tensor in tensors)

    def first(self, examples: int) -> "Dataset":
        """Return a data set with only the first of its training examples."""
        return _first(self, examples)

    def to(self, device: torch.device) -> "Dataset":
        """Return this data set on a device; it is copied there only once."""
        return _moved(self, device)


@cache
def _first(dataset: Dataset, examples: int) -> Dataset:
    train = tuple(tensor[:examples] for tensor in dataset.splits["train"])
    return Dataset(dataset.name, {**dataset.splits, "train": train}, dataset.classes)


@cache
def _moved(dataset: Dataset, device: torch.device) -> Dataset:
    splits = {key: tuple(_copied(t, device) for t in v) for key, v in dataset.splits.items()}
    return Dataset(dataset.name, splits, dataset.classes)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    # The windows of a text overlap in memory, and so they must on the device: a copy of each
    # would be as many times larger as a window is long.
    length = tensor.untyped_storage().nbytes() // tensor.element_size()
    memory = tensor.as_strided((length,), (1,), 0).to(device)
    return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class RawImages(NamedTuple):
    """All images of a data set, of one size.

    Args:
        training: images to learn from, (n, channels, height, width), of any dtype.
        training_labels: their classes, (n,) int64.
        test: images to test on, (m, channels, height, width).
        test_labels: their classes, (m,) int64.
        classes: how many there are.
    """

    training: Tensor
    training_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int = 10
