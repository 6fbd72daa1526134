"""Diffusion models of small images: a U-Net learns to tell the noise in an image."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

import ngopt
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import activation as make_activation
from meta_train.tasks.model_parts import map_norm
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Batch, Tensors
from ngopt.graph.neural_graph import NeuralGraph

TIMES = 100
"""Number of levels of noise."""


def linear_schedule() -> Tensor:
    """Share of the image's variance that is left at each level (TIMES,), as in DDPM.

    The rates of noise are those of DDPM's thousand levels, with the levels further apart.
    """
    scale = 1000 / TIMES
    rates = torch.linspace(scale * 1e-4, scale * 0.02, TIMES, dtype=torch.float64)
    return (1 - rates).cumprod(0).float()


def cosine_schedule() -> Tensor:
    """Share of the image's variance that is left at each level (TIMES,).

    Source: Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021.
    """
    angle = (torch.arange(TIMES + 1, dtype=torch.float64) / TIMES + 0.008) / 1.008 * math.pi / 2
    left = angle.cos().square()
    rates = (1 - left[1:] / left[:-1]).clamp(max=0.999)
    return (1 - rates).cumprod(0).float()


SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule}
"""What makes the share of the image's variance at each level."""


def sinusoids(times: Tensor, width: int) -> Tensor:
    """Sines and cosines of times (batch,), from one radian per level to slow ones: (batch, width).

    Args:
        times: numbers of levels.
        width: even.
    """
    places = torch.arange(width // 2, device=times.device)
    angles = times.unsqueeze(-1) * torch.exp(-math.log(TIMES) * places / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], -1)


class Block(nn.Module):
    """Convolution, norm, shift by the time, activation.

    Args:
        into: number of input channels.
        out: number of output channels.
        embedded: width of the embedding of the time.
        norm: of :data:`~meta_train.tasks.model_parts.MAP_NORMS`.
        act: activation.
    """

    def __init__(self, into: int, out: int, embedded: int, norm: str, act: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(into, out, 3, padding=1)
        self.norm = nn.Sequential(*map_norm(norm)(out))
        self.shift = nn.Linear(embedded, out)
        self.act = make_activation(act)

    def forward(self, maps: Tensor, time: Tensor) -> Tensor:
        """Map (batch, into, height, width) and (batch, embedded) to (batch, out, height, width)."""
        shift = self.shift(time).unsqueeze(-1).unsqueeze(-1)
        result: Tensor = self.act(self.norm(self.convolution(maps)) + shift)
        return result


class UNet(nn.Module):
    """Blocks at full size, blocks of twice the channels at half size, and blocks at full size.

    The last ones see what was there before the size was halved, concatenated.

    Args:
        channels: of the images.
        width: number of channels at full size; divisible by 4.
        depth: number of blocks in each of the three places.
        norm: of :data:`~meta_train.tasks.model_parts.MAP_NORMS`.
        act: activation.
    """

    def __init__(self, channels: int, width: int, depth: int, norm: str, act: str) -> None:
        super().__init__()

        def blocks(into: int, out: int) -> nn.ModuleList:
            sizes = pairwise([into, *[out] * depth])
            return nn.ModuleList(Block(a, b, 2 * width, norm, act) for a, b in sizes)

        self.width = width
        self.embedding = nn.Sequential(nn.Linear(width, 2 * width), make_activation(act))
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.down = blocks(width, width)
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = blocks(2 * width, 2 * width)
        self.grow = nn.Conv2d(2 * width, width, 3, padding=1)
        self.up = blocks(2 * width, width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        """Tell the noise in images.

        Args:
            noisy: (batch, channels, height, width); height and width are even.
            times: levels of noise from 0 to TIMES - 1, as floats, (batch,).

        Returns:
            Shaped like the images.
        """
        time = self.embedding(sinusoids(times, self.width))
        maps = self.stem(noisy)
        for block in self.down:
            maps = block(maps, time)
        skipped, maps = maps, self.shrink(maps)
        for block in self.middle:
            maps = block(maps, time)
        maps = self.grow(interpolate(maps, scale_factor=2.0))
        maps = torch.cat([maps, skipped], 1)
        for block in self.up:
            maps = block(maps, time)
        noise: Tensor = self.head(maps)
        return noise


class DiffusionTask(ModelTask):
    """Learn to tell the noise in images; noise and times are drawn with each batch.

    Args:
        channels: of the images.
        width: number of channels at full size.
        depth: number of blocks in each of the three places.
        norm: of the blocks.
        act: activation.
        data: images and labels.
        schedule: of :data:`SCHEDULES`.
        batch: images per step.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        norm: str,
        act: str,
        data: Dataset,
        schedule: str,
        batch: int,
    ) -> None:
        self.left = look_up(SCHEDULES, schedule, "schedule of noise")()

        def build() -> nn.Module:
            return UNet(channels, width, depth, norm, act)

        super().__init__(build, data, mse_loss, batch)

    @cached_property
    def graph(self) -> NeuralGraph:
        """Traced on two samples."""
        pictures = self.data.splits["train"][0][:2]
        return ngopt.trace(self.module, pictures, pictures.new_ones(2))

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw noisy images, times (runs, batch) and the noise, which is shaped like the images."""
        pictures, _ = super().batches(context, runs, generator, split)
        times = torch.randint(TIMES, pictures.shape[:2], generator=generator)
        noise = torch.randn(pictures.shape, generator=generator).to(pictures)
        left = self.left[times].to(pictures).view(*times.shape, 1, 1, 1)
        noisy = left.sqrt() * pictures + (1 - left).sqrt() * noise
        return noisy, times.to(pictures), noise


@register("unet")
@dataclass(frozen=True)
class UNetDiffusion(Family):
    """Denoising diffusion with a small U-Net; the loss is the mean squared error of the noise.

    Args:
        data: image data sets.
        size: of the images, in pixels; even.
        width: number of channels at full size, divisible by 4; twice as many at half size.
        depth: number of blocks at full size, at half size, and again at full size.
        norm: in the blocks, of :data:`~meta_train.tasks.model_parts.MAP_NORMS`.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        schedule: of the noise: `linear` or `cosine`.
        batch: images per step.

    Source: Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020; Ronneberger et al.,
    "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (8, 16)
    depth: tuple[int, ...] = (1, 2)
    norm: tuple[str, ...] = ("group",)
    activation: tuple[str, ...] = ("silu",)
    schedule: tuple[str, ...] = ("cosine",)
    batch: tuple[int, ...] = (32,)

    def task(
        self,
        data: str,
        size: int,
        width: int,
        depth: int,
        norm: str,
        activation: str,
        schedule: str,
        batch: int,
    ) -> DiffusionTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if the size is odd, the width is not divisible by 4, or there is no such
                schedule.
        """
        if size % 2 or width % 4:
            raise MetaTrainError(
                f"a U-Net of width {width} cannot be had for images of {size} x {size} pixels.\n"
                "  Choose an even size, which is halved, and a width that is divisible by 4."
            )
        dataset = images(data, size)
        channels = dataset.splits["train"][0].shape[1]
        return DiffusionTask(channels, width, depth, norm, activation, dataset, schedule, batch)
