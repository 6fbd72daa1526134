"""Distributions of points in the plane."""

import torch
from torch import Tensor

RADIUS, SPREAD = 2.0, 0.02


def two_moons(count: int, generator: torch.Generator, noise: float = 0.06) -> Tensor:
    """Two interleaved half circles (count, 2), shifted and scaled to about unit variance.

    Args:
        count: number of points.
        generator: draws them.
        noise: standard deviation of the points off their circle, of radius 1.
    """
    angle = torch.pi * torch.rand(count, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.tensor([1.0, 0.5]) - upper
    is_upper = torch.rand(count, 1, generator=generator) < 0.5
    points = torch.where(is_upper, upper, lower)
    points = points + noise * torch.randn(count, 2, generator=generator)
    return (points - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])


def eight_gaussians(count: int, generator: torch.Generator) -> Tensor:
    """Points (count, 2) around eight places on a circle of radius 2, 0.02 off each way."""
    angle = 2 * torch.pi / 8 * torch.randint(8, (count,), generator=generator)
    centres = RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    return centres + SPREAD * torch.randn(count, 2, generator=generator)


def energy_distance(first: Tensor, second: Tensor) -> float:
    """Energy distance between two samples (n, d) and (m, d), 0 for the same distribution.

    G. J. Székely and M. L. Rizzo, Energy statistics (2013). Pairs of a point with itself are left
    out, so that its mean over samples is that of the distributions; it can be slightly negative.
    """

    def within(points: Tensor) -> float:
        count = len(points)
        return torch.cdist(points, points).double().sum().item() / (count * (count - 1))

    between = torch.cdist(first, second).double().mean().item()
    return 2 * between - within(first) - within(second)
