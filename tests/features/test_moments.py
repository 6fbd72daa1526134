import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.moments import Window, compute_dtype, init_moments, update_moments

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def after(gradients, momentum_dtype="float32", like=None):
    state = init_moments(gradients[0] if like is None else like, momentum_dtype)
    for gradient in gradients:
        state, moments = update_moments(state, gradient)
    return state, moments


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("momentum_dtype", "square_dtype", "bytes_"),
    [
        ("bfloat16", "bfloat16", 6),
        ("bfloat16", "float32", 8),
        ("float32", "bfloat16", 10),
        ("float32", "float32", 12),
    ],
)
def test_size_of_the_state(dtype, momentum_dtype, square_dtype, bytes_):
    state = init_moments(torch.randn(3, 4).to(dtype), momentum_dtype, square_dtype)
    used = sum(state[key].element_size() for key in ("fast", "slow", "square"))
    assert used == (24 if dtype == torch.float64 else bytes_)
    assert state["step"].shape == ()
    assert state["step"].dtype == torch.float32
    assert not any(tensor.any() for tensor in state.values())
    new, _ = update_moments(state, torch.randn(3, 4).to(dtype))
    assert {k: (v.dtype, v.shape) for k, v in new.items()} == {
        k: (v.dtype, v.shape) for k, v in state.items()
    }


def test_unknown_dtypes():
    for option in ("momentum_dtype", "square_dtype"):
        message = f"(?s)cannot be stored as 'int8'.*{option}= one of: bfloat16"
        with pytest.raises(RuleError, match=message):
            init_moments(torch.zeros(2), **{option: "int8"})


def test_squares_in_bfloat16_fall_when_gradients_do():
    gradients = [(1.0 if t < 300 else 1e-3) * torch.randn(200) for t in range(4000)]
    exact, _ = after(gradients)
    state = init_moments(gradients[0], square_dtype="bfloat16")
    for gradient in gradients:
        state, _ = update_moments(state, gradient)
    ratio = state["square"].float() / exact["square"]
    assert (ratio.mean() - 1).abs() < 0.03
    assert ratio.std() < 0.06


def test_the_window_of_the_slow_momentum_grows():
    window = Window(power=1.0, reference=400.0)
    gradients = [torch.randn(300) for _ in range(2000)]
    fixed, growing = (init_moments(gradients[0], "float32") for _ in range(2))
    for number, gradient in enumerate(gradients):
        fixed, _ = update_moments(fixed, gradient)
        growing, moments = update_moments(growing, gradient, window)
        if number + 1 == 400:
            torch.testing.assert_close(fixed["slow"], growing["slow"])
    expected = torch.lerp(growing["slow"], torch.ones(300), 400 / (100 * 2001))
    after, _ = update_moments(growing, torch.ones(300), window)
    torch.testing.assert_close(after["slow"], expected)
    assert moments.slow.square().mean() < 0.3 * fixed["slow"].square().mean()
    assert torch.equal(fixed["fast"], growing["fast"])


def test_moments_are_weighted_means():
    gradients = [torch.randn(6, dtype=torch.float64) for _ in range(7)]
    state, moments = after(gradients)
    assert state["step"] == 7
    for decay, values, moment in (
        (0.9, gradients, moments.fast),
        (0.99, gradients, moments.slow),
        (0.999, [g**2 for g in gradients], moments.square),
    ):
        weights = torch.tensor([decay ** (6 - t) for t in range(7)], dtype=torch.float64)
        mean = (weights[:, None] * torch.stack(values)).sum(0) / weights.sum()
        torch.testing.assert_close(moment, mean, rtol=1e-10, atol=1e-14)


def test_first_step_is_exact_in_single_precision():
    gradient = torch.randn(100)
    _, moments = after([gradient])
    torch.testing.assert_close(moments.fast, gradient, rtol=1e-6, atol=0)
    torch.testing.assert_close(moments.slow, gradient, rtol=1e-6, atol=0)
    torch.testing.assert_close(moments.square, gradient**2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_computes_in_single_precision_at_least(dtype):
    parameter = torch.randn(8).to(dtype)
    _, moments = after([torch.randn(8).to(dtype)], "bfloat16", parameter)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert compute_dtype(parameter) == expected
    assert all(moment.dtype == expected for moment in moments)


def test_half_precision_gradients_do_not_overflow():
    _, moments = after([torch.full((3,), 60000.0, dtype=torch.float16)])
    assert moments.square.isfinite().all()


def test_bfloat16_momenta_stay_near():
    gradients = [torch.randn(200) + 0.5 for _ in range(50)]
    _, exact = after(gradients, "float32")
    _, rounded = after(gradients, "bfloat16")
    assert torch.equal(exact.square, rounded.square)
    for a, b in zip(exact, rounded, strict=True):
        assert (a - b).norm() < 0.02 * a.norm()
    assert not torch.equal(exact.slow, rounded.slow)


def test_is_pure_and_differentiable():
    gradient = torch.randn(4, requires_grad=True)
    state = init_moments(gradient)
    before = {key: tensor.clone() for key, tensor in state.items()}
    new, moments = update_moments(state, gradient)
    assert all(torch.equal(state[key], before[key]) for key in state)
    total = sum(moment.sum() for moment in moments) + sum(t.float().sum() for t in new.values())
    (slope,) = torch.autograd.grad(total, gradient)
    assert slope.isfinite().all()
    assert slope.all()


def test_keeps_memory_format_and_device():
    parameter = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = init_moments(parameter)
    assert state["square"].stride() == parameter.stride()
    assert not any(tensor.requires_grad for tensor in state.values())
    assert init_moments(torch.zeros(3, device="meta"))["step"].device.type == "meta"


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,)])
def test_odd_shapes(shape):
    _, moments = after([torch.ones(shape)])
    assert all(moment.shape == shape for moment in moments)
