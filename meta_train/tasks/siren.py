"""Implicit neural representations: each run fits one image, as a function of the coordinates."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

import ngopt
from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_task import fresh, weights
from meta_train.tasks.task import Batch, Problem, Task, Tensors
from ngopt.graph.neural_graph import NeuralGraph


class SineNetwork(nn.Module):
    """Perceptron with sine activations, initialised so that each layer's outputs are alike.

    Args:
        outputs: numbers per point, such as colours.
        width: of the hidden layers.
        depth: number of hidden layers.
        frequency: what the arguments of the sines are multiplied by.

    Source: Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions",
    NeurIPS 2020.
    """

    def __init__(self, outputs: int, width: int, depth: int, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency
        sizes = [2, *[width] * depth, outputs]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(sizes))
        for i, layer in enumerate(self.layers):
            bound = math.sqrt(6 / sizes[i]) / frequency if i else 1 / sizes[i]
            nn.init.uniform_(layer.get_parameter("weight"), -bound, bound)

    def forward(self, points: Tensor) -> Tensor:
        """Map points (batch, 2) in [-1, 1] to values (batch, outputs)."""
        *hidden, last = self.layers
        for layer in hidden:
            points = torch.sin(self.frequency * layer(points))
        values: Tensor = last(points)
        return values


class ImageFit(Task):
    """Fit one image: the context is the image, a batch some of its pixels.

    All splits are the same pixels, for the image is all there is to learn. The images are those of
    the training split of their data set.

    Args:
        width: of the hidden layers.
        depth: number of hidden layers.
        frequency: of the sines.
        pictures: (n, channels, size, size).
        batch: pixels per step.
    """

    def __init__(
        self, width: int, depth: int, frequency: float, pictures: Tensor, batch: int
    ) -> None:
        self.build = partial(SineNetwork, pictures.shape[1], width, depth, frequency)
        self.module = fresh(self.build, torch.Generator().manual_seed(0))
        self.pictures = pictures.flatten(2).transpose(1, 2)
        self.points = centres(pictures.shape[-1])
        self.batch = batch

    @cached_property
    def graph(self) -> NeuralGraph:
        """Traced on all pixels."""
        return ngopt.trace(self.module, self.points)

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw weights and a picture (pixels, channels)."""
        drawn = weights(fresh(self.build, generator), self.device)
        index = int(torch.randint(len(self.pictures), (), generator=generator))
        return Problem(drawn, {"picture": self.pictures[index]})

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw pixels with replacement: points (runs, batch, 2), values (runs, batch, channels)."""
        index = torch.randint(len(self.points), (runs, self.batch), generator=generator)
        index = index.to(self.device)
        return self.points[index], context["picture"].take_along_dim(index.unsqueeze(-1), 1)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Mean squared error of the pixels."""
        points, values = batch
        return mse_loss(functional_call(self.module, dict(parameters), (points,)), values)

    def to(self, device: torch.device) -> "ImageFit":
        """Return this task with its pictures, problems and batches on a device."""
        moved = super().to(device)
        moved.module = deepcopy(self.module).to(device)
        moved.pictures, moved.points = self.pictures.to(device), self.points.to(device)
        return moved


def centres(size: int) -> Tensor:
    """Centres of the pixels (size * size, 2) of a square from -1 to 1, row by row."""
    steps = (2 * torch.arange(size) + 1) / size - 1
    return torch.cartesian_prod(steps, steps)


@register("siren")
@dataclass(frozen=True)
class Siren(Family):
    """Sine networks, each of which fits one small image.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers.
        depth: number of hidden layers.
        frequency: of the sines; 30 is usual for images of hundreds of pixels.
        batch: pixels per step.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (2, 3)
    frequency: tuple[float, ...] = (10.0,)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, frequency: float, batch: int
    ) -> ImageFit:
        """Build the task of one choice of each field."""
        pictures, _ = images(data, size).splits["train"]
        return ImageFit(width, depth, frequency, pictures, batch)
