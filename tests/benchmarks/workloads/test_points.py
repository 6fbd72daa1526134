import numpy as np
import pytest
import torch

from benchmarks.workloads.points import eight_gaussians, energy_distance, two_moons


def test_two_moons_have_about_unit_variance_and_the_noise_asked_for(generator):
    moons = two_moons(20_000, generator, noise=0.0)
    assert moons.mean(0).tolist() == pytest.approx([0, 0], abs=0.05)
    assert moons.std(0).tolist() == pytest.approx([1, 1], abs=0.05)
    plain = moons * torch.tensor([0.87, 0.5]) + torch.tensor([0.5, 0.25])
    upper, lower = plain.norm(dim=1), (plain - torch.tensor([1.0, 0.5])).norm(dim=1)
    assert torch.minimum((upper - 1).abs(), (lower - 1).abs()).max() < 1e-5


def test_energy_distance_tells_distributions_apart(generator):
    first, second = (eight_gaussians(500, generator) for _ in range(2))
    assert abs(energy_distance(first, second)) < 0.02
    # The mean distance between Gaussians counts twice from one to all, and once among all.
    one = torch.tensor([2.0, 0.0]) + 0.02 * torch.randn(500, 2, generator=generator)
    mean = np.mean([4 * np.sin(np.pi * k / 8) for k in range(8)])
    assert energy_distance(one, first) == pytest.approx(mean, abs=0.2)
