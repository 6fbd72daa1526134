import pytest
import torch

from ngopt.rules.layers.polar import rough_polar_factor
from tests.rules import untrained

SHAPES = [(1, 5, 5), (2, 4, 9), (1, 9, 4), (3, 1, 6), (1, 6, 1), (1, 1, 1)]


def unit(*shape, dtype=torch.float64):
    matrices = torch.randn(shape, dtype=dtype)
    return matrices / torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_acts_on_singular_values_alone(shape, steps):
    wide = unit(*shape)
    expected = untrained.rough_polar_factor(wide, steps)
    torch.testing.assert_close(rough_polar_factor(wide, steps), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_brings_singular_values_near_1(steps):
    # Two values whose fourth powers add up to 1, as they are after the division.
    small = torch.logspace(-1.5, -0.08, 50, dtype=torch.float64)
    large = (1 - small**4) ** 0.25
    values = torch.stack([large, small], 1)
    found = torch.diagonal(rough_polar_factor(torch.diag_embed(values), steps), dim1=1, dim2=2)
    assert found.min() > 0.61
    assert found.max() < 1.39
    tiny = rough_polar_factor(torch.diag(torch.tensor([1.0, 1e-4]))[None])[0, 1, 1]
    assert tiny == pytest.approx(21.46e-4, rel=1e-3)


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
