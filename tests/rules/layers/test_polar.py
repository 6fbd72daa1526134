from types import SimpleNamespace

import pytest
import torch

from ngopt.features.scale import row_squares
from ngopt.rules.layers import polar
from ngopt.rules.layers.polar import in_half_precision, rough_polar_factor
from tests.rules import untrained

SHAPES = [(1, 5, 5), (2, 4, 9), (1, 9, 4), (3, 1, 6), (1, 6, 1), (1, 1, 1)]


def unit(*shape, dtype=torch.float64):
    matrices = torch.randn(shape, dtype=dtype)
    return matrices / torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)


@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_acts_on_singular_values_alone(shape, steps, damping):
    wide = unit(*shape)
    expected = untrained.rough_polar_factor(wide, steps, damping)
    found = rough_polar_factor(wide, steps, damping)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("steps", "off"), [(2, 0.39), (3, 0.041), (5, 0.041)])
def test_brings_singular_values_near_1(steps, off):
    # Two values whose fourth powers add up to 1, as they are after the division.
    small = torch.logspace(-1.5, -0.08, 50, dtype=torch.float64)
    large = (1 - small**4) ** 0.25
    values = torch.stack([large, small], 1)
    found = torch.diagonal(rough_polar_factor(torch.diag_embed(values), steps), dim1=1, dim2=2)
    assert (found - 1).abs().max() < off
    tiny = rough_polar_factor(torch.diag(torch.tensor([1.0, 1e-4]))[None])[0, 1, 1]
    assert tiny == pytest.approx(21.46e-4, rel=1e-3)


@pytest.mark.parametrize("damping", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("shape", [(40, 40), (24, 70), (70, 24)], ids=str)
def test_damping_keeps_differences_of_small_singular_values(shape, damping):
    matrices = unit(3, *shape)
    first, values, last = torch.linalg.svd(matrices, full_matrices=False)
    squares = values.square()
    exact = values * (squares + damping * squares.mean(1, keepdim=True)).rsqrt()
    found = rough_polar_factor(matrices, 3, damping)
    torch.testing.assert_close(found, (first * exact.unsqueeze(1)) @ last, rtol=0, atol=0.02)


def test_as_precise_in_single_precision_as_that_allows():
    wide = unit(1, 64, 200)
    single = rough_polar_factor(wide.float()).double()
    torch.testing.assert_close(single, rough_polar_factor(wide), rtol=0, atol=2e-6)


def test_large_matrices_of_noise_come_near_orthogonal_ones():
    found = torch.linalg.svdvals(rough_polar_factor(unit(1, 200, 300, dtype=torch.float32)))
    assert found.min() > 0.6
    assert found.max() < 1.4


def test_zero_stays_zero_with_a_finite_derivative():
    wide = torch.zeros(1, 3, 4, requires_grad=True)
    result = rough_polar_factor(wide)
    assert not result.any()
    (derivative,) = torch.autograd.grad(result.sum(), wide)
    assert derivative.isfinite().all()


def rows_of_one_size(matrices):
    return matrices * torch.rsqrt(row_squares(matrices) + 1e-16)


def spread(shape, lowest):
    """Singular values, and sizes of rows, that are some powers of ten apart."""
    first, last = (torch.linalg.qr(torch.randn(n, n))[0] for n in shape)
    values = torch.logspace(0, lowest, min(shape))
    few = len(values)
    return (first[:, :few] * values) @ last[:few] * torch.logspace(0, -3, shape[0])[:, None]


HALVED = {
    "wide": lambda: torch.randn(2, 40, 300),
    "tall": lambda: torch.randn(2, 300, 40),
    "one entry": lambda: torch.randn(3, 1, 1),
    "one column": lambda: torch.randn(1, 70, 1),
    "of low rank": lambda: (torch.randn(64, 3) @ torch.randn(3, 90))[None],
    "of rank 1": lambda: (torch.randn(64, 1) @ torch.randn(1, 64))[None],
    "ill-conditioned": lambda: spread((64, 64), -6)[None],
    "ill-conditioned, tall": lambda: spread((128, 64), -6)[None],
    "ill-conditioned, wide": lambda: spread((64, 128), -6)[None],
}


@pytest.mark.parametrize(("steps", "damping"), [(2, 0.0), (3, 0.0), (3, 1.0)])
@pytest.mark.parametrize("kind", HALVED)
def test_half_precision_hardly_changes_the_direction(kind, steps, damping):
    given = HALVED[kind]()
    given /= torch.linalg.vector_norm(given, dim=(1, 2), keepdim=True)
    half = in_half_precision(given, steps, damping)
    single = rough_polar_factor(given, steps, damping)
    assert half.dtype == torch.float32
    values = [float(torch.linalg.svdvals(found).max()) for found in (half, single)]
    assert values[0] == pytest.approx(values[1], rel=0.02)
    difference = rows_of_one_size(half) - rows_of_one_size(single)
    assert difference.square().mean().sqrt() < 0.005 * steps


@pytest.mark.parametrize("steps", [2, 3])
def test_in_half_precision_nothing_is_too_large(steps):
    # Values from 0 to 1, in the largest and in the smallest share of the norm of products.
    for values in (torch.ones(256), torch.logspace(0, -9, 256), torch.zeros(256)):
        given = torch.diag(values)[None] / values.norm().clamp(min=1e-9)
        assert in_half_precision(given, steps).isfinite().all()
    assert not in_half_precision(torch.zeros(1, 8, 9), steps).any()


def test_where_products_are_in_half_precision(monkeypatch):
    monkeypatch.setattr(polar, "WORTH", 4 * 2 * 2 * 3)
    # A tensor that only pretends to be on a GPU.
    given = torch.zeros(4, 2, 3, device="meta")
    large = SimpleNamespace(shape=given.shape, dtype=given.dtype, device=torch.device("cuda"))
    small = SimpleNamespace(**{**vars(large), "shape": torch.Size((3, 2, 3))})
    double = SimpleNamespace(**{**vars(large), "dtype": torch.float64})
    with torch.no_grad():
        assert polar.half_is_worthwhile(large, 2)
        assert not polar.half_is_worthwhile(large, 4)
        assert not any(polar.half_is_worthwhile(other, 2) for other in (small, double, given))
    assert not polar.half_is_worthwhile(large, 2)  # somebody may want derivatives


@pytest.mark.gpu
def test_large_matrices_on_a_gpu():
    given = torch.randn(8, 300, 500) / 150000**0.5
    with torch.no_grad():
        found = rough_polar_factor(given.cuda())
    difference = rows_of_one_size(found.cpu()) - rows_of_one_size(rough_polar_factor(given))
    assert 1e-6 < difference.square().mean().sqrt() < 0.01
