"""Multilayer perceptrons that classify small images."""

from dataclasses import dataclass

from torch import nn
from torch.nn.functional import cross_entropy

from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import perceptron
from meta_train.tasks.model_task import ModelTask


@register("mlp")
@dataclass(frozen=True)
class MLP(Family):
    """Fully connected classifiers.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers.
        depth: number of hidden layers.
        norm: before each activation, of :data:`~meta_train.tasks.model_parts.VECTOR_NORMS`.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (16, 32, 64)
    depth: tuple[int, ...] = (1, 2, 3)
    norm: tuple[str, ...] = ("none",)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, norm: str, activation: str, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field."""
        dataset = images(data, size)
        sizes = [dataset.splits["train"][0][0].numel(), *[width] * depth, dataset.classes]

        def build() -> nn.Module:
            return nn.Sequential(nn.Flatten(), *perceptron(sizes, activation, norm))

        return ModelTask(build, dataset, cross_entropy, batch)
