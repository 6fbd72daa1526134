"""Vision transformers that classify small images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.tasks.attention import Layer
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import patches
from meta_train.tasks.model_task import ModelTask


class VisionTransformer(nn.Module):
    """Linear embedding of patches, learned positions, transformer layers, mean, linear layer.

    Args:
        shape: of the patches of one image, (patches, numbers in each).
        patch: size of the patches in pixels.
        width: of the residual stream.
        depth: number of layers.
        heads: divides the width.
        act: activation of the layers.
        classes: number of outputs.
    """

    def __init__(
        self,
        shape: torch.Size,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        act: str,
        classes: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(shape[1], width)
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0], width))
        self.layers = nn.Sequential(*(Layer(width, heads, act, causal=False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, channels, height, width) to (batch, classes)."""
        tokens = self.embedding(patches(images, self.patch)) + self.positions
        outputs: Tensor = self.head(self.norm(self.layers(tokens)).mean(1))
        return outputs


@register("vit")
@dataclass(frozen=True)
class ViT(Family):
    """Vision transformers, with normalisation before each part and mean pooling.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        patch: size of the patches, in pixels; divides that of the images.
        width: of the residual stream.
        depth: number of layers.
        heads: divides the width.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition
    at Scale", ICLR 2021.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    patch: tuple[int, ...] = (2, 4)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (1, 2)
    heads: tuple[int, ...] = (2, 4)
    activation: tuple[str, ...] = ("gelu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self,
        data: str,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        activation: str,
        batch: int,
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if the patches do not tile the images, or the heads do not divide the
                width.
        """
        dataset = images(data, size)
        shape = patches(dataset.splits["train"][0][:1], patch).shape[1:]

        def build() -> nn.Module:
            return VisionTransformer(shape, patch, width, depth, heads, activation, dataset.classes)

        return ModelTask(build, dataset, cross_entropy, batch)
