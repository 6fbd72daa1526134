import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngopt.features.scale import LOG_SIGN, log_sign


def by_cases(x, p):
    """The formula, as it is written in the source."""
    if abs(x) >= math.exp(-p):
        return [math.log(abs(x)) / p, math.copysign(1, x)]
    return [-1.0, math.exp(p) * x]


@given(
    st.lists(st.floats(-1e6, 1e6) | st.floats(-1e-3, 1e-3), min_size=1, max_size=20),
    st.sampled_from([5.0, 10.0]),
)
def test_formula(numbers, p):
    found = log_sign(torch.tensor(numbers, dtype=torch.float64), p)
    expected = torch.tensor([by_cases(x, p) for x in numbers], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_last_axis(shape, dtype):
    result = log_sign(torch.ones(shape, dtype=dtype))
    assert result.shape == (*shape, LOG_SIGN)
    assert result.dtype == dtype


def test_continuous_where_the_cases_meet():
    edge = math.exp(-10)
    x = torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64)
    for sign in (1, -1):
        below, above = log_sign(sign * x)
        torch.testing.assert_close(below, above, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_are_finite_everywhere(dtype):
    numbers = [0.0, -0.0, 1e-38, 1e-20, math.exp(-10), 1.0, -1e30]
    x = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    result = log_sign(x)
    assert result.isfinite().all()
    (slope,) = torch.autograd.grad(result.sum(), x)
    assert slope.isfinite().all()
    assert slope[0] == pytest.approx(math.exp(10))


def test_zero_is_the_least_magnitude_without_a_sign():
    assert log_sign(torch.zeros(1)).tolist() == [[-1.0, 0.0]]
