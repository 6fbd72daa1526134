import math

import pytest
import torch

from ngopt.optim.gradient_clipper import LARGEST, GradientClipper

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def grads(size, dtype=torch.float32):
    return {"w": torch.tensor([0.5, -size], dtype=dtype), "b": torch.tensor(1.0, dtype=dtype)}


def used(spikes, *sizes, limit=10.0, dtype=torch.float32):
    """The gradients of the last of several steps, as they are let pass."""
    for size in sizes:
        found, finite = spikes.clipped(grads(size, dtype), limit)
        assert finite
    return found


def test_usual_gradients_are_let_pass_as_they_are():
    spikes, given = GradientClipper(), grads(2.0)
    for _ in range(3):
        found, _ = spikes.clipped(given, 10.0)
        assert all(found[name] is given[name] for name in given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_spike_is_scaled_to_the_limit_and_the_others_stay(dtype):
    found = used(GradientClipper(), 2.0, 2.0, 100.0, dtype=dtype)
    torch.testing.assert_close(
        found["w"], torch.tensor([0.1, -20.0], dtype=dtype), rtol=1e-2, atol=0
    )
    assert found["b"] == 1
    assert found["w"].dtype == dtype


def test_the_usual_size_is_the_mean_of_what_was_let_pass():
    spikes = GradientClipper()
    used(spikes, 1.0, 3.0, 1e6)
    assert spikes.as_plain() == {"w": [8.0, 3.0], "b": [1.0, 3.0]}  # (1 + 3 + 10 * 2) / 3


def test_what_grows_from_nothing_gets_there():
    spikes = GradientClipper()
    used(spikes, *[1e-12] * 100)
    steps = 0
    while abs(used(spikes, 1.0)["w"][1]) < 1:
        steps += 1
    assert steps < 500


def test_a_parameter_without_gradient_so_far_has_no_limit():
    spikes = GradientClipper()
    found, _ = spikes.clipped({"w": torch.zeros(2)}, 10.0)
    assert not found["w"].any()
    found, _ = spikes.clipped({"w": torch.tensor([5.0])}, 10.0)
    assert found["w"] == 5


def test_what_is_too_large_to_be_squared_is_scaled_down_at_once():
    found, finite = GradientClipper().clipped({"w": torch.tensor([1e30, 1e29])}, 10.0)
    assert finite
    torch.testing.assert_close(found["w"], torch.tensor([LARGEST, LARGEST / 10]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_told_and_leaves_no_trace(bad):
    spikes = GradientClipper()
    used(spikes, 1.0, 2.0)
    before = spikes.as_plain()
    _, finite = spikes.clipped(grads(bad), 10.0)
    assert not finite
    assert spikes.as_plain() == before


def test_without_a_limit_nothing_is_changed_or_remembered():
    spikes = GradientClipper()
    used(spikes, 1.0, limit=math.inf)
    given = grads(1e30)
    found, finite = spikes.clipped(given, math.inf)
    assert finite
    assert found["w"] is given["w"]
    assert spikes.as_plain() == {}


def test_parameters_come_and_go():
    spikes = GradientClipper()
    spikes.clipped({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 10.0)
    spikes.clipped({"b": torch.tensor(2.0)}, 10.0)
    found, _ = spikes.clipped({"c": torch.tensor(5.0), "b": torch.tensor(99.0)}, 10.0)
    assert (found["c"], found["b"]) == (5, 20)
    assert spikes.as_plain() == {"a": [1.0, 1.0], "b": [8.0, 3.0], "c": [5.0, 1.0]}


def test_no_gradients_and_empty_ones():
    assert GradientClipper().clipped({}, 10.0)[1]
    found, finite = GradientClipper().clipped({"w": torch.zeros(0, 3)}, 10.0)
    assert finite
    assert found["w"].shape == (0, 3)


def test_plain_data_there_and_back():
    spikes = GradientClipper()
    used(spikes, 0.1, 0.7, 3.0)
    assert GradientClipper.of_plain(spikes.as_plain()).as_plain() == spikes.as_plain()
    assert GradientClipper.of_plain({}).as_plain() == {}
