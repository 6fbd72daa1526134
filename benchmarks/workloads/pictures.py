"""Pictures: batches of shuffled epochs, augmentation, and the training of classifiers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.workload import Recipe, Training
from meta_train.data.dataset import Dataset
from meta_train.data.images import images

CHUNK = 500
"""Largest number of images in a forward pass of an evaluation."""

Augment = Callable[[Tensor, torch.Generator], Tensor]


def epochs(
    tensors: tuple[Tensor, ...], size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end; each epoch has an order of its own and drops its last, smaller batch.

    Args:
        tensors: whose first dimension runs over samples.
        size: of a batch.
        generator: of the orders.
    """
    count = len(tensors[0])
    while True:
        order = torch.randperm(count, generator=generator)
        for index in order[: count // size * size].split(size):
            yield tuple(tensor[index] for tensor in tensors)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a model in evaluation mode makes of many inputs, some at a time."""
    with evaluating(model):
        return torch.cat([model(part) for part in inputs.split(CHUNK)])


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of inputs whose largest logit is that of their label."""
    return (outputs(model, inputs).argmax(1) == labels).double().mean().item()


def shift_and_flip(inputs: Tensor, generator: torch.Generator, shift: int = 4) -> Tensor:
    """Shift each image by up to `shift` pixels, filled with zeros, and mirror half of them.

    Args:
        inputs: (n, channels, height, width).
        generator: of shifts and mirrored images.
        shift: in pixels.
    """
    count, _, height, width = inputs.shape
    tops, lefts = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    rows = tops + torch.arange(height)
    columns = lefts + torch.arange(width)
    columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(inputs, [shift] * 4)
    sample = torch.arange(count)[:, None, None]
    # The channels come last where indices stand on both sides of them.
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def unit_range(name: str, size: int) -> Dataset:
    """Images with pixels from 0 to 1, by the range of the training images.

    Args:
        name: of the data set.
        size: of the images in pixels.
    """
    data = images(name, size)
    low, high = data.splits["train"][0].aminmax()
    splits = {
        split: (((pixels - low) / (high - low)).clamp(0, 1), labels)
        for split, (pixels, labels) in data.splits.items()
    }
    return Dataset(data.name, splits, data.classes)


@cache
def photograph(height: int, width: int) -> Tensor:
    """A colour photograph of a temple, from scikit-learn: (3, height, width), from 0 to 1."""
    pixels = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)
    return F.interpolate(pixels[None] / 255, (height, width), mode="area")[0]


def grid(height: int, width: int) -> Tensor:
    """Centres of all pixels as (height * width, 2) of row and column, from -1 to 1."""
    rows, columns = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    return torch.cartesian_prod(rows, columns)


def psnr(found: Tensor, wanted: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values from 0 to 1."""
    return -10 * (found - wanted).square().mean().log10().item()


class Classification(Training):
    """Training of a classifier of images with cross-entropy.

    Args:
        model: from images (n, channels, height, width) to logits (n, classes).
        recipe: of the model.
        data: with splits `train` and `test`.
        seed: of batches and augmentation.
        batch: number of images.
        augment: changes training images; None for none.
        tested: number of test images that count; None for all.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: Dataset,
        seed: int,
        *,
        batch: int = 128,
        augment: Augment | None = None,
        tested: int | None = None,
    ) -> None:
        super().__init__([(model, recipe)])
        self.model, self.augment = model, augment
        self.generator = torch.Generator().manual_seed(seed)
        self.batches = epochs(data.splits["train"], batch, self.generator)
        self.test = tuple(tensor[:tested] for tensor in data.splits["test"])

    def loss(self) -> Tensor:
        """Cross-entropy of the next batch, in nats."""
        inputs, labels = next(self.batches)
        if self.augment is not None:
            inputs = self.augment(inputs, self.generator)
        return F.cross_entropy(self.model(inputs), labels)

    def metric(self) -> float:
        """Accuracy on test images."""
        return accuracy(self.model, *self.test)
