"""MLP-Mixers that classify small images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import patches, perceptron
from meta_train.tasks.model_task import ModelTask


class MixerLayer(nn.Module):
    """A perceptron across patches and one across channels, each normalised first and added.

    Args:
        count: number of patches.
        width: number of channels; the perceptron across patches has half as many hidden neurons,
            that across channels four times as many.
        act: activation of the perceptrons.
    """

    def __init__(self, count: int, width: int, act: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.across = nn.Sequential(*perceptron([count, width // 2, count], act))
        self.channels = nn.Sequential(
            nn.LayerNorm(width), *perceptron([width, 4 * width, width], act)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, patches, width) to the same shape."""
        x = x + self.across(self.norm(x).transpose(1, 2)).transpose(1, 2)
        result: Tensor = x + self.channels(x)
        return result


class MixerNetwork(nn.Module):
    """Linear embedding of patches, mixer layers, mean over patches, linear layer.

    Args:
        shape: of the patches of one image, (patches, numbers in each).
        patch: size of the patches in pixels.
        width: number of channels.
        depth: number of layers.
        act: activation of the layers.
        classes: number of outputs.
    """

    def __init__(
        self, shape: torch.Size, patch: int, width: int, depth: int, act: str, classes: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(shape[1], width)
        self.layers = nn.Sequential(*(MixerLayer(shape[0], width, act) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, height, width) to (batch, classes)."""
        mixed = self.layers(self.embedding(patches(images, self.patch)))
        outputs: Tensor = self.head(self.norm(mixed).mean(1))
        return outputs


@register("mixer")
@dataclass(frozen=True)
class Mixer(Family):
    """MLP-Mixers: perceptrons across the patches of an image and across channels, in turn.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        patch: size of the patches, in pixels; divides that of the images.
        width: number of channels, at least 2.
        depth: number of layers.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    patch: tuple[int, ...] = (2, 4)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (1, 2)
    activation: tuple[str, ...] = ("gelu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, patch: int, width: int, depth: int, activation: str, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if the patches do not tile the images.
        """
        dataset = images(data, size)
        shape = patches(dataset.splits["train"][0][:1], patch).shape[1:]

        def build() -> nn.Module:
            return MixerNetwork(shape, patch, width, depth, activation, dataset.classes)

        return ModelTask(build, dataset, cross_entropy, batch)
