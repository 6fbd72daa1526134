"""Training of classifiers of images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.batches import epochs
from benchmarks.workloads.evaluating import accuracy
from benchmarks.workloads.workload import Recipe, Training
from meta_train.data.dataset import Dataset
from meta_train.data.images import images

Augment = Callable[[Tensor, torch.Generator], Tensor]


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
        batch: int,
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


def cifar10(model: nn.Module, recipe: Recipe, seed: int, batch: int) -> Classification:
    """Training on CIFAR-10 with shifted and mirrored images, tested on 2500 images.

    Args:
        model: from images (n, 3, 32, 32) to logits (n, 10).
        recipe: of the model.
        seed: of batches and augmentation.
        batch: number of images.
    """
    data = images("cifar10", 32)
    return Classification(
        model, recipe, data, seed, batch=batch, augment=shift_and_flip, tested=2500
    )


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
