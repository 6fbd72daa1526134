import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngopt.features.bundle_statistics import BundleStatistics
from ngopt.features.entry_features import Edges, Entries, Scales, entry_features
from ngopt.features.moments import init_moments, update_moments
from tests.features.random_edges import SHAPE
from tests.features.random_edges import random_edges as edges


def features_of(bundle):
    base = bundle.moments.slow - bundle.moments.fast
    return entry_features(
        bundle, base, Scales.of(BundleStatistics.of(bundle), base.square().mean())
    )


@settings(max_examples=10)
@given(
    st.integers(0, 100),
    st.floats(-4, 4).map(lambda x: 10**x),
    st.floats(-4, 4).map(lambda x: 10**x),
)
def test_free_of_scale(seed, gradient_scale, weight_scale):
    plain = features_of(edges(seed))
    scaled = features_of(edges(seed, gradient_scale, weight_scale))
    for name, a, b in zip(Entries._fields, plain, scaled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_formulas():
    e = edges(dtype=torch.float64)
    moments, features = e.moments, features_of(e)
    base = moments.slow - moments.fast
    expected = {
        "adam": moments.fast / moments.square.sqrt(),
        "slow": moments.slow / moments.square.sqrt(),
        "gradient": e.gradient / moments.square.sqrt(),
        "fast": moments.fast / moments.fast.square().mean().sqrt(),
        "weight": e.weight / e.weight.square().mean().sqrt(),
        "base": base / base.square().mean().sqrt(),
    }
    assert {*expected, "factored"} == {*Entries._fields}
    for name, value in expected.items():
        torch.testing.assert_close(getattr(features, name), value, rtol=1e-6, atol=1e-6)


def test_factored_means_run_over_out_in_and_taps_within_each_group():
    e = edges(dtype=torch.float64)
    factored = features_of(e).factored
    square = e.moments.square
    for g in range(SHAPE[0]):
        for o in range(SHAPE[1]):
            for i in range(SHAPE[2]):
                row, column = square[g, o].mean(), square[g, :, i].mean()
                expected = e.moments.fast[g, o, i] / (row * column / square[g].mean()).sqrt()
                torch.testing.assert_close(factored[g, o, i], expected, rtol=1e-6, atol=1e-6)


def test_factored_is_adam_where_the_square_has_rank_one():
    rows, columns = torch.rand(1, 6, 1, 1) + 0.1, torch.rand(1, 1, 4, 1) + 0.1
    e = edges(shape=(1, 6, 4, 1))
    moments = e.moments._replace(square=rows * columns)
    features = features_of(Edges.of(e.weight, e.gradient, moments))
    torch.testing.assert_close(features.factored, features.adam)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zeros_give_zeros_with_finite_derivatives(dtype):
    zero = torch.zeros(SHAPE, dtype=dtype)
    state = init_moments(zero)
    gradient, weight = zero.clone().requires_grad_(), zero.clone().requires_grad_()
    _, moments = update_moments(state, gradient)
    features = features_of(Edges.of(weight, gradient, moments))
    assert not any(feature.any() for feature in features)
    slopes = torch.autograd.grad(sum(feature.sum() for feature in features), (gradient, weight))
    assert all(slope.isfinite().all() for slope in slopes)


def test_adam_direction_keeps_the_signal_to_noise():
    noise = [torch.randn(SHAPE) for _ in range(30)]
    sizes = []
    for signal in (0.0, 3.0):
        state = init_moments(noise[0], "float32")
        for gradient in noise:
            state, moments = update_moments(state, gradient + signal)
        sizes.append(Edges.of(noise[0], gradient + signal, moments).adam.square().mean().sqrt())
    assert sizes[0] < 0.5
    assert 0.8 < sizes[1] < 1.2
