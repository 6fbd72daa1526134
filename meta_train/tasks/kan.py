"""Kolmogorov-Arnold networks that classify small images: a learned function on every edge."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, silu

from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_task import ModelTask

REACH = 2.0
"""The bumps stand from minus this to plus this, in deviations of normalised inputs."""


class KANLayer(nn.Module):
    r"""Adds up a function of each input, :math:`a_{ij} silu(x_j) + \sum_k c_{ijk} \phi_k(x_j)`.

    The basis :math:`\phi_k` is made of Gaussian bumps at even distances, which are as wide as
    these, of inputs normalised over the layer.

    Args:
        into: number of inputs.
        out: number of outputs.
        bumps: number of basis functions, at least 2.
    """

    def __init__(self, into: int, out: int, bumps: int) -> None:
        super().__init__()
        self.bumps = bumps
        self.norm = nn.LayerNorm(into)
        self.base = nn.Linear(into, out)
        self.spline = nn.Linear(into * bumps, out, bias=False)
        nn.init.trunc_normal_(self.spline.weight, std=0.1)

    def basis(self, x: Tensor) -> Tensor:
        """Heights of all bumps at inputs (batch, into), from 0 to 1: (batch, into, bumps)."""
        centres = torch.linspace(-REACH, REACH, self.bumps, device=x.device)
        apart = 2 * REACH / (self.bumps - 1)
        return torch.exp(-((x.unsqueeze(-1) - centres) / apart).square())

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, into) to (batch, out)."""
        functions = self.spline(self.basis(self.norm(x)).flatten(1))
        outputs: Tensor = self.base(silu(x)) + functions
        return outputs


@register("kan")
@dataclass(frozen=True)
class KAN(Family):
    """Kolmogorov-Arnold networks with Gaussian bumps, which classify images.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        width: of the hidden layers.
        depth: number of hidden layers.
        bumps: number of basis functions of each edge, at least 2.
        batch: images per step.

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks", ICLR 2025; Li, "Kolmogorov-Arnold
    Networks are Radial Basis Function Networks", 2024, for bumps in place of B-splines.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    width: tuple[int, ...] = (8, 16)
    depth: tuple[int, ...] = (1, 2)
    bumps: tuple[int, ...] = (5, 8)
    batch: tuple[int, ...] = (64,)

    def task(
        self, data: str, size: int, width: int, depth: int, bumps: int, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if there are fewer than two bumps.
        """
        if bumps < 2:
            raise MetaTrainError(
                f"the edges of a KAN cannot have {bumps} bump(s).\n  Choose bumps of at least 2."
            )
        dataset = images(data, size)
        sizes = [dataset.splits["train"][0][0].numel(), *[width] * depth, dataset.classes]

        def build() -> nn.Module:
            return nn.Sequential(nn.Flatten(), *(KANLayer(a, b, bumps) for a, b in pairwise(sizes)))

        return ModelTask(build, dataset, cross_entropy, batch)
