import pytest
import torch
from torch.optim._muon import _zeropower_via_newtonschulz

from ngopt.rules.layers.newton_schulz import COEFFICIENTS, orthogonalize
from tests.rules.untrained import by_singular_values

SHAPES = [(5, 5), (4, 9), (9, 4), (1, 6), (6, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-9])
def test_equals_torch_to_the_last_bit_in_half_precision(shape, scale):
    for _ in range(50):
        matrix = (scale * torch.randn(shape)).bfloat16()
        expected = _zeropower_via_newtonschulz(matrix.clone(), COEFFICIENTS, 5, 1e-7)
        assert torch.equal(orthogonalize(matrix), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_acts_on_singular_values_alone(shape):
    matrix = torch.randn(shape, dtype=torch.float64)
    expected = by_singular_values(matrix)
    torch.testing.assert_close(orthogonalize(matrix), expected, rtol=0, atol=1e-9)


def test_singular_values_come_near_1():
    values = torch.linalg.svdvals(orthogonalize(torch.randn(20, 7, dtype=torch.float64)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_each_matrix_of_a_stack_by_itself():
    stack = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    result = orthogonalize(stack, steps=3, coefficients=(1.5, -0.5, 0.0))
    assert result.shape == stack.shape
    for one, expected in zip(stack.flatten(0, 1), result.flatten(0, 1), strict=True):
        torch.testing.assert_close(orthogonalize(one, 3, (1.5, -0.5, 0.0)), expected)


def test_zero_stays_zero_with_a_finite_derivative():
    matrix = torch.zeros(3, 4, requires_grad=True)
    result = orthogonalize(matrix)
    assert not result.any()
    (derivative,) = torch.autograd.grad(result.sum(), matrix)
    assert derivative.isfinite().all()
