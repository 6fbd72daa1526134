"""Autoencoders of small images."""

from dataclasses import dataclass
from functools import cache

from torch import nn
from torch.nn.functional import mse_loss

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import perceptron
from meta_train.tasks.model_task import ModelTask


@cache
def reconstruction(dataset: Dataset) -> Dataset:
    """Data set whose targets are its inputs, flattened: (n, pixels) both."""
    flat = {split: tensors[0].flatten(1) for split, tensors in dataset.splits.items()}
    return Dataset(dataset.name, {split: (pixels, pixels) for split, pixels in flat.items()})


@register("autoencoder")
@dataclass(frozen=True)
class Autoencoder(Family):
    """Fully connected autoencoders with a bottleneck; the loss is the mean squared error.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers.
        depth: number of hidden layers on either side of the bottleneck.
        code: width of the bottleneck.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (16, 32, 64)
    depth: tuple[int, ...] = (1, 2)
    code: tuple[int, ...] = (4, 8)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, code: int, activation: str, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field."""
        dataset = reconstruction(images(data, size))
        pixels = dataset.splits["train"][0].shape[1]
        side = [width] * depth
        sizes = [pixels, *side, code, *side, pixels]

        def build() -> nn.Module:
            return nn.Sequential(*perceptron(sizes, activation))

        return ModelTask(build, dataset, mse_loss, batch)
