import pytest
import torch

from ngopt.features.adafactor import (
    Rates,
    accumulate,
    entries,
    fitted,
    state_shapes,
    unit_stack,
    zeros,
)
from ngopt.graph.neural_graph import NeuralGraph
from tests.features.slow_adafactor import SlowAdafactor

SHAPES = [(5, 3), (3, 5), (4, 4), (2, 3, 2, 2), (3, 2, 2), (5,)]
DECAYS = (0.5, 0.9, 0.99), 0.8, (0.6, 0.7, 0.95)
RATES = Rates(*(1 - torch.tensor(decay, dtype=torch.float64) for decay in DECAYS))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_every_feature_against_its_formula(shape, scale):
    layout = NeuralGraph.per_tensor({"w": shape}).layout("w")
    array = layout.bundles[0].shape
    slow_shape = shape if len(shape) == 1 else array[1:]
    slow = SlowAdafactor(slow_shape, *DECAYS, eps=1e-6)
    weight = torch.randn(shape, dtype=torch.float64)
    state = zeros(weight, state_shapes(layout))
    for step in range(5):
        gradient = scale * torch.randn(shape, dtype=torch.float64)
        state = accumulate(state, gradient, layout, RATES)
        slow.take(gradient.view(slow_shape).numpy())
        (found,) = entries(gradient, weight, state, layout, 1e-6)
        expected = slow.features(gradient.view(slow_shape).numpy(), weight.view(slow_shape).numpy())
        assert (len(found.own), len(found.factored)) == (13, 15)
        for one, other in zip([*found.own, *found.factored], expected, strict=True):
            torch.testing.assert_close(one.expand(array), torch.tensor(other).view(array))
        assert state["step"] == step + 1


def test_stacked_features_have_a_root_mean_square_of_1():
    features = [torch.randn(2, 5, 4, 3), 100 * torch.randn(2, 1, 4, 3)]
    stacked = unit_stack(features, (1, 2), 1e-9)
    assert stacked.shape == (2, 5, 4, 3, 2)
    torch.testing.assert_close(stacked.square().mean((1, 2)), torch.ones(2, 3, 2))
    ratio = stacked[..., 1] / features[1]
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))


def test_only_what_does_not_fit_begins_anew():
    shapes = state_shapes(NeuralGraph.per_tensor({"w": (6, 4)}).layout("w"))
    state = {name: torch.rand(shape) + 1 for name, shape in shapes.items()}
    found = fitted(state, {**shapes, "rows": (3, 9)})
    assert found["rows"].shape == (3, 9)
    assert not found["rows"].any()
    assert all(found[name] is state[name] for name in state if name != "rows")


def test_the_state_of_half_precision_is_single_and_of_double_double():
    layout = NeuralGraph.per_tensor({"w": (3, 2)}).layout("w")
    shapes = state_shapes(layout)
    for dtype, kept in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        state = zeros(torch.ones(3, 2, dtype=dtype), shapes)
        assert {tensor.dtype for name, tensor in state.items() if name != "step"} == {kept}
        assert state["step"].dtype == torch.float32
