"""Variational autoencoders of small images."""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import ngopt
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import perceptron
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Batch, Tensors
from ngopt.graph.neural_graph import NeuralGraph


class VariationalAutoencoder(nn.Module):
    """Perceptrons from pixels to the distribution of a code, and from a code to pixels.

    Args:
        pixels: number of inputs and outputs.
        width: of the hidden layers.
        depth: number of hidden layers on either side of the code.
        code: width of the code.
        act: activation of the hidden layers.
    """

    def __init__(self, pixels: int, width: int, depth: int, code: int, act: str) -> None:
        super().__init__()
        self.code = code
        side = [width] * depth
        self.encoder = nn.Sequential(*perceptron([pixels, *side, 2 * code], act))
        self.decoder = nn.Sequential(*perceptron([code, *side, pixels], act))

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode pixels, draw codes and decode them.

        Args:
            pixels: (batch, pixels).
            noise: what codes are drawn with, standard normal, (batch, code).

        Returns:
            Logits of the pixels (batch, pixels); mean and log variance of the codes (batch, code).
        """
        mean, log_variance = self.encoder(pixels).chunk(2, -1)
        logits = self.decoder(mean + (log_variance / 2).exp() * noise)
        return logits, mean, log_variance


def negative_elbo(outputs: tuple[Tensor, Tensor, Tensor], pixels: Tensor) -> Tensor:
    """Negative evidence lower bound in nats per pixel, 0-dim.

    Pixels (batch, pixels) from 0 to 1 are Bernoulli, the prior of the codes is standard normal.

    Args:
        outputs: of :class:`VariationalAutoencoder`.
        pixels: what was to be decoded.
    """
    logits, mean, log_variance = outputs
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean() / 2
    return binary_cross_entropy_with_logits(logits, pixels) + divergence / pixels.shape[-1]


class VariationalTask(ModelTask):
    """Learn to encode and decode images; the noise of the codes is a part of each batch."""

    module: VariationalAutoencoder

    @cached_property
    def graph(self) -> NeuralGraph:
        """Traced on two samples."""
        pixels, _ = (tensor[:2] for tensor in self.data.splits["train"])
        return ngopt.trace(self.module, pixels, pixels.new_ones(2, self.module.code))

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw pixels, noise, and the same pixels again: (runs, batch, pixels or code)."""
        pixels, targets = super().batches(context, runs, generator, split)
        noise = torch.randn(*pixels.shape[:-1], self.module.code, generator=generator)
        return pixels, noise.to(pixels), targets


@cache
def brightness(dataset: Dataset) -> Dataset:
    """Data set of images from 0, the darkest training pixel of a channel, to 1, the brightest.

    Inputs and targets are the same, flattened: (n, pixels).
    """
    seen = dataset.splits["train"][0]
    dark, bright = seen.amin((0, 2, 3), keepdim=True), seen.amax((0, 2, 3), keepdim=True)
    splits = {}
    for split, tensors in dataset.splits.items():
        pixels = ((tensors[0] - dark) / (bright - dark)).clamp(0, 1).flatten(1)
        splits[split] = (pixels, pixels)
    return Dataset(dataset.name, splits)


@register("vae")
@dataclass(frozen=True)
class VAE(Family):
    """Fully connected variational autoencoders; the loss is the negative ELBO in nats per pixel.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers.
        depth: number of hidden layers on either side of the code.
        code: width of the code.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: images per step.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (32, 64)
    depth: tuple[int, ...] = (1, 2)
    code: tuple[int, ...] = (4, 8)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, code: int, activation: str, batch: int
    ) -> VariationalTask:
        """Build the task of one choice of each field."""
        dataset = brightness(images(data, size))
        pixels = dataset.splits["train"][0].shape[1]

        def build() -> nn.Module:
            return VariationalAutoencoder(pixels, width, depth, code, activation)

        return VariationalTask(build, dataset, negative_elbo, batch)
