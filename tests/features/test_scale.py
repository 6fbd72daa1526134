import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngopt.features import scale
from ngopt.features.scale import log_ratio, rms, root_inverse, row_squares, scaled, unit


@given(st.floats(1e-4, 1e4), st.integers(0, 100))
def test_rms_and_unit_follow_the_scale(scale, seed):
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(rms(scale * x), scale * x.square().mean().sqrt(), rtol=1e-5, atol=0)
    torch.testing.assert_close(unit(scale * x), unit(x), rtol=1e-5, atol=1e-6)


def test_root_inverse():
    square = torch.tensor([4.0, 1e-30, 0.0])
    with torch.no_grad():
        torch.testing.assert_close(root_inverse(square), torch.tensor([0.5, 1e15, 1e15]))
    assert root_inverse(torch.tensor([4.0, 0.0])).tolist() == [0.5, pytest.approx(1e12)]
    square = torch.tensor([1e-32, 0.0], dtype=torch.float64)
    expected = torch.tensor([1e16, 1e18], dtype=torch.float64)
    torch.testing.assert_close(root_inverse(square), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-24, 1e-20, 1.0, 1e30])
def test_root_inverse_has_two_finite_derivatives(size, dtype):
    square = torch.tensor(size, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(root_inverse(square), square, create_graph=True)
    assert slope.isfinite()
    if size > 1e-15:
        assert torch.autograd.grad(slope, square)[0].isfinite()


@pytest.mark.parametrize(
    ("dtype", "powers"), [(torch.float32, [-11, -6, 6, 14]), (torch.float64, [-14, 80])]
)
def test_nothing_depends_on_the_scale(dtype, powers):
    x, y = torch.randn(50, dtype=dtype), torch.randn(50, dtype=dtype)
    with torch.no_grad():
        for factor in (10.0**power for power in powers):
            torch.testing.assert_close(unit(factor * x), unit(x), rtol=1e-5, atol=0)
            a, b = x.square(), y.square()
            scaled_ratio = log_ratio(a * factor**2, b * factor**2)
            torch.testing.assert_close(scaled_ratio, log_ratio(a, b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 3, 4), (3, 1, 9), (1, 8, 40)], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_row_squares_a_block_at_a_time(shape, turned, monkeypatch):
    matrices = torch.randn(shape).mT if turned else torch.randn(shape)
    expected = matrices.double().square().mean(2, keepdim=True).float()
    monkeypatch.setattr(scale, "CPU_ENTRIES", 20)
    largest, square = [], torch.Tensor.square
    monkeypatch.setattr(torch.Tensor, "square", lambda x: (largest.append(x.numel()), square(x))[1])
    with torch.no_grad():
        torch.testing.assert_close(row_squares(matrices), expected)
    assert max(largest) <= max(20, shape[0] * matrices.shape[2])
    torch.testing.assert_close(row_squares(matrices), expected)


def test_row_squares_of_nothing():
    with torch.no_grad():
        assert row_squares(torch.zeros(0, 3, 2)).shape == (0, 3, 1)
        assert row_squares(torch.zeros(1, 0, 2)).shape == (1, 0, 1)
        assert row_squares(torch.zeros(1, 3, 0)).shape == (1, 3, 1)


def test_scaled_keeps_what_a_derivative_needs():
    x, factor = torch.randn(4), torch.tensor(3.0, requires_grad=True)
    before = x.clone()
    torch.testing.assert_close(torch.autograd.grad(scaled(x, factor).sum(), factor)[0], x.sum())
    assert torch.equal(x, before)
    with torch.no_grad():
        assert scaled(x, factor) is x
    assert torch.equal(x, 3 * before)


@pytest.mark.parametrize("function", [rms, unit])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_stays_zero_with_a_finite_derivative(function, dtype):
    x = torch.zeros(5, dtype=dtype, requires_grad=True)
    result = function(x)
    assert not result.any()
    (slope,) = torch.autograd.grad(result.sum(), x)
    assert slope.isfinite().all()


def test_log_ratio():
    square = torch.tensor([4.0, 1.0, 0.0, 1e30])
    ratios = log_ratio(square, torch.tensor(1.0))
    assert ratios[1] == 0
    torch.testing.assert_close(ratios[0], torch.tensor(2.0).log().div(2).tanh())
    assert ratios[2] < -0.99
    assert ratios[3] > 0.99
    assert ratios.abs().max() <= 1
    assert log_ratio(torch.zeros(()), torch.zeros(())) == 0


def test_log_ratio_has_a_finite_derivative_at_zero():
    square, reference = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
    slopes = torch.autograd.grad(log_ratio(square, reference).sum(), (square, reference))
    assert all(slope.isfinite().all() for slope in slopes)
