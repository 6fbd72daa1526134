"""Normalizing flows: densities of small images, by maps whose inverse and volume are known."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

import ngopt
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import perceptron
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Batch, Tensors
from meta_train.tasks.vae import brightness
from ngopt.graph.neural_graph import NeuralGraph

LEVELS = 16
"""Number of levels of brightness that are distinguished."""

MARGIN = 0.05
"""Brightness is kept as far from 0 and 1 before its logit is taken."""


class Coupling(nn.Module):
    """Scales and shifts some numbers by what a perceptron makes of the others.

    Args:
        known: number of numbers that stay as they are.
        moved: number of numbers that are scaled and shifted.
        sizes: of the hidden layers.
        act: activation of the hidden layers.
    """

    def __init__(self, known: int, moved: int, sizes: list[int], act: str) -> None:
        super().__init__()
        self.network = nn.Sequential(*perceptron([known, *sizes, 2 * moved], act))

    def forward(self, known: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers (batch, moved), moved, and the logarithms of their scales."""
        raw, shift = self.network(known).chunk(2, -1)
        scale = torch.tanh(raw)
        return moved * scale.exp() + shift, scale


class Flow(nn.Module):
    """Couplings that move one half of the pixels and the other by turns.

    Args:
        pixels: number of inputs and outputs.
        width: of the hidden layers of each coupling.
        hidden: number of hidden layers of each coupling.
        depth: number of couplings.
        act: activation.
    """

    def __init__(self, pixels: int, width: int, hidden: int, depth: int, act: str) -> None:
        super().__init__()
        halves = ((pixels + 1) // 2, pixels // 2)
        self.couplings = nn.ModuleList(
            Coupling(halves[n % 2], halves[1 - n % 2], [width] * hidden, act) for n in range(depth)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels (batch, pixels) to codes of that shape, and the log of the volume (batch,)."""
        known, moved = pixels.tensor_split([(pixels.shape[-1] + 1) // 2], -1)
        volume = torch.zeros_like(pixels[:, 0])
        for coupling in self.couplings:
            moved, scale = coupling(known, moved)
            volume = volume + scale.sum(-1)
            known, moved = moved, known
        return torch.cat([known, moved], -1), volume


def bits_per_pixel(outputs: tuple[Tensor, Tensor], volume: Tensor) -> Tensor:
    """Bits that an image takes, per pixel, 0-dim; codes are standard normal.

    It bounds the length of a code of the levels of brightness from above, so that its mean over
    images and noise is never below 0, whatever the flow.

    Args:
        outputs: of :class:`Flow`.
        volume: log of the volume of the map from levels to the flow's inputs, (batch,).
    """
    codes, own = outputs
    pixels = codes.shape[-1]
    nats = (codes.square().sum(-1) + pixels * math.log(2 * math.pi)) / 2 - own - volume
    return nats.mean() / (pixels * math.log(2))


def inputs_of(levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Spread levels of brightness evenly up to the next, and take the logit of that.

    Args:
        levels: whole numbers from 0 to LEVELS - 1, (..., pixels).
        noise: from 0 to 1, of the same shape.

    Returns:
        Inputs of the flow (..., pixels); log of the volume of the map from levels to them (...).
    """
    share = MARGIN + (1 - 2 * MARGIN) * (levels + noise) / LEVELS
    inputs = share.logit()
    slopes = math.log((1 - 2 * MARGIN) / LEVELS) - logsigmoid(inputs) - logsigmoid(-inputs)
    return inputs, slopes.sum(-1)


def chequered(size: int, channels: int) -> Tensor:
    """Numbers of the pixels of an image, first those on the white squares of a chessboard."""
    squares = torch.arange(size).unsqueeze(0) + torch.arange(size).unsqueeze(1)
    return (squares % 2).expand(channels, size, size).flatten().argsort(stable=True)


class FlowTask(ModelTask):
    """Learn the density of images; noise that blurs their levels is drawn with each batch."""

    @cached_property
    def graph(self) -> NeuralGraph:
        """Traced on two samples."""
        levels = self.data.splits["train"][0][:2]
        return ngopt.trace(self.module, inputs_of(levels, torch.full_like(levels, 0.5))[0])

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw inputs (runs, batch, pixels), and the log of their volume (runs, batch)."""
        (levels,) = super().batches(context, runs, generator, split)
        noise = torch.rand(levels.shape, generator=generator).to(levels)
        return inputs_of(levels, noise)


@register("flow")
@dataclass(frozen=True)
class RealNVP(Family):
    """Normalizing flows with affine couplings; the loss is in bits per pixel, of 16 levels.

    The halves of the pixels are the two colours of a chessboard. An untrained flow starts at some
    five bits; levels that are all alike, by themselves, take four.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers of each coupling.
        hidden: number of hidden layers of each coupling.
        depth: number of couplings.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: Dinh et al., "Density estimation using Real NVP", ICLR 2017.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (1, 2)
    depth: tuple[int, ...] = (4,)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self,
        data: str,
        size: int,
        width: int,
        hidden: int,
        depth: int,
        activation: str,
        batch: int,
    ) -> FlowTask:
        """Build the task of one choice of each field."""
        pictures = images(data, size)
        order = chequered(size, pictures.splits["train"][0].shape[1])
        splits = {
            split: ((tensors[0][:, order] * (LEVELS - 1)).round(),)
            for split, tensors in brightness(pictures).splits.items()
        }

        def build() -> nn.Module:
            return Flow(len(order), width, hidden, depth, activation)

        return FlowTask(build, Dataset(pictures.name, splits), bits_per_pixel, batch)
