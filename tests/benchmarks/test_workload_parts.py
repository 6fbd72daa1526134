"""Parts of workloads, against what they are by definition."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads import contrastive, flow, hash_grid, pictures, pinn, points


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_an_epoch_has_no_sample_twice_and_keeps_tensors_together(generator):
    samples = torch.arange(10)
    batches = pictures.epochs((samples, 2 * samples), 3, generator)
    epochs = [torch.cat([next(batches)[0] for _ in range(3)]) for _ in range(2)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 9
    assert not torch.equal(*epochs)
    first, second = next(batches)
    assert torch.equal(2 * first, second)


def test_evaluation_changes_neither_mode_nor_statistics():
    model = nn.BatchNorm1d(2)
    with pictures.evaluating(model):
        assert not model.training
        assert not model(torch.ones(3, 2)).requires_grad
    assert model.training
    assert torch.equal(model.running_mean, torch.zeros(2))
    with pictures.evaluating(model.eval()):
        pass
    assert not model.training


def test_shifted_and_mirrored_images_are_crops_of_the_padded_one(generator):
    image = torch.rand(1, 2, 4, 5)
    padded = F.pad(image, [1] * 4)
    crops = [padded[0, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3)]
    crops += [crop.flip(2) for crop in crops]
    seen = set()
    for found in pictures.shift_and_flip(image.expand(200, 2, 4, 5), generator, shift=1):
        seen.add(next(i for i, crop in enumerate(crops) if torch.equal(crop, found)))
    assert len(seen) == 18


def test_pixels_lie_in_their_range_and_images_in_order():
    data = pictures.unit_range("digits", 8)
    pixels, _ = data.splits["train"]
    assert pixels.min() == 0
    assert pixels.max() == 1
    places = pictures.grid(2, 4)
    assert places[:5].tolist() == [
        [-0.5, -0.75],
        [-0.5, -0.25],
        [-0.5, 0.25],
        [-0.5, 0.75],
        [0.5, -0.75],
    ]


def test_psnr_of_an_error_of_a_tenth_is_20_db():
    assert pictures.psnr(torch.full((3,), 0.6), torch.full((3,), 0.5)) == pytest.approx(20)


def test_two_moons_have_about_unit_variance_and_the_noise_asked_for(generator):
    moons = points.two_moons(20_000, generator, noise=0.0)
    assert moons.mean(0).tolist() == pytest.approx([0, 0], abs=0.05)
    assert moons.std(0).tolist() == pytest.approx([1, 1], abs=0.05)
    plain = moons * torch.tensor([0.87, 0.5]) + torch.tensor([0.5, 0.25])
    upper, lower = plain.norm(dim=1), (plain - torch.tensor([1.0, 0.5])).norm(dim=1)
    assert torch.minimum((upper - 1).abs(), (lower - 1).abs()).max() < 1e-5


def test_energy_distance_tells_distributions_apart(generator):
    first, second = (points.eight_gaussians(500, generator) for _ in range(2))
    assert abs(points.energy_distance(first, second)) < 0.02
    # The mean distance between Gaussians counts twice from one to all, and once among all.
    one = torch.tensor([2.0, 0.0]) + 0.02 * torch.randn(500, 2, generator=generator)
    mean = np.mean([4 * np.sin(np.pi * k / 8) for k in range(8)])
    assert points.energy_distance(one, first) == pytest.approx(mean, abs=0.2)


def test_nt_xent_finds_the_other_view(generator):
    features = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    similar = (features @ features.T / 0.5).exp()
    wanted = [
        -torch.log(similar[i, (i + 3) % 6] / (similar[i].sum() - similar[i, i])) for i in range(6)
    ]
    assert contrastive.nt_xent(features, 0.5).item() == pytest.approx(sum(wanted).item() / 6)


def test_views_keep_what_is_constant_up_to_brightness(generator):
    views = contrastive.views(torch.ones(8, 1, 6, 6), generator)
    assert views.flatten(1).std(1).max() < 1e-5
    assert views.mean((1, 2, 3)).std() > 0.1


def test_the_solution_of_burgers_solves_it():
    x, t, step = np.array([-0.7, -0.2, 0.3, 0.9]), np.full(4, 0.3), 1e-4
    u_t = (pinn.exact(x, t + step) - pinn.exact(x, t - step)) / (2 * step)
    after, u, before = (pinn.exact(x + d, t) for d in (step, 0.0, -step))
    bend = (after - 2 * u + before) / step**2
    residual = u_t + u * (after - before) / (2 * step) - pinn.VISCOSITY * bend
    assert np.abs(residual).max() < 1e-3 * np.abs(u_t).max()
    assert pinn.exact(x, np.full(4, 1e-9)) == pytest.approx(-np.sin(np.pi * x), abs=1e-4)


def test_the_density_of_a_flow_is_that_of_its_change_of_variables(generator):
    model = flow.RealNVP(3, 8)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    x = torch.randn(2, generator=generator)

    def code(point):
        for coupling in model.couplings:
            point = coupling(point[None])[0][0].flip(0)
        return point

    jacobian = torch.autograd.functional.jacobian(code, x)
    normal = torch.distributions.Normal(0, 1).log_prob(code(x)).sum()
    wanted = normal + jacobian.det().abs().log()
    assert model(x[None]).item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("cells", [3, 50])
def test_at_a_corner_a_hash_grid_gives_one_entry_and_between_two_their_mean(cells):
    table = nn.Embedding(64, 2)
    ends = torch.tensor([[1.0, 2.0], [2.0, 2.0], [1.5, 2.0]]) / cells
    first, second, middle = hash_grid.look_up(table, cells, ends)
    assert (table.weight - first).norm(dim=1).min() < 1e-4
    torch.testing.assert_close((first + second) / 2, middle, atol=1e-4, rtol=0)
