import math

import numpy as np
import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.small_fc import DECAYS, SmallFC
from tests.features.slow_adafactor import SlowAdafactor, perceptron
from tests.rules.rule_inputs import draw, randomize

SHAPES = [(5, 3), (3, 5), (4, 4), (4, 3, 2, 2), (5,)]


def slow_step(rule, slow, gradient, weight, step):
    """The update from its formulas."""
    slow.take(gradient)
    x = [f / np.sqrt(np.mean(f**2) + 1e-5) for f in slow.features(gradient, weight)]
    horizons = [1, 3, 10, 30, 100, 300, 1000, 3000, 1e4, 3e4, 1e5]
    x += [np.full(gradient.shape, math.tanh(step / horizon - 1)) for horizon in horizons]
    assert len(x) == 39
    outputs = perceptron(rule.net, np.stack(x, -1))
    return outputs[..., 0] * np.exp(outputs[..., 1] * 1e-3) * rule.config["step_mult"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"hidden": (4, 4), "step_mult": 0.001}], ids=str)
def test_five_steps_against_the_formulas(shape, options):
    rule = randomize(SmallFC(**options))
    with torch.no_grad():
        rule.decays.mul_(0.1)
    theta = rule.decays.detach().double().numpy()
    decays = [
        1 - math.exp(10 * (math.log(1 - start) / 10 + t))
        for start, t in zip(DECAYS, theta, strict=True)
    ]
    described = NeuralGraph.per_tensor({"w": shape})
    array = shape if len(shape) == 1 else described.bundles[0].shape[1:]
    slow = SlowAdafactor(array, decays[:3], decays[3], decays[4:], 1e-6)
    weight = draw(described, 0)
    state = rule.init_state(weight, described)
    for step in range(5):
        gradient = draw(described, step + 1)
        update, state = rule(weight, gradient, state, described)
        arrays = [tensors["w"].view(array).numpy() for tensors in (gradient, weight)]
        expected = torch.tensor(slow_step(rule, slow, *arrays, step)).view(shape)
        torch.testing.assert_close(update["w"], expected, rtol=1e-8, atol=1e-10)


def test_counts_its_weights():
    assert sum(p.numel() for p in SmallFC().parameters()) == 2402 + len(DECAYS)
    assert not SmallFC().decays.any()


def test_decays_stay_where_means_are_means():
    rule = SmallFC()
    with torch.no_grad():
        rule.decays.fill_(5.0)
    described = NeuralGraph.per_tensor({"w": (3, 2)})
    weight, gradient = draw(described, 0), draw(described, 1)
    _, state = rule(weight, gradient, rule.init_state(weight, described), described)
    torch.testing.assert_close(state["w"]["momentum0"], gradient["w"])
    torch.testing.assert_close(state["w"]["square"], gradient["w"].square())


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_derivatives_with_respect_to_theta(size):
    rule = SmallFC(hidden=(4,))
    described = NeuralGraph.per_tensor({"w": (3, 2), "b": (3,)})
    weight = draw(described, 0, torch.float32)
    state, total = rule.init_state(weight, described), 0
    for seed in range(2):
        gradient = {name: size * g for name, g in draw(described, seed, torch.float32).items()}
        update, state = rule(weight, gradient, state, described)
        total = total + sum(u.square().sum() for u in update.values())
    total.backward()
    assert all(p.grad.isfinite().all() for p in rule.parameters())
    assert rule.decays.grad[:4].any() == bool(size)


def test_config_builds_it_again():
    rule = SmallFC([3, 2], 0.5, seed=4)
    again = SmallFC(**rule.config)
    assert rule.config == again.config == {"hidden": (3, 2), "step_mult": 0.5, "seed": 4}
    for name, tensor in rule.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    other = SmallFC((3, 2), 0.5, seed=5)
    assert not torch.equal(other.net.layers[0].weight, rule.net.layers[0].weight)


@pytest.mark.parametrize("options", [{"hidden": (4, 0)}, {"step_mult": 0.0}], ids=str)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"(?s)SmallFC got .*Give"):
        SmallFC(**options)
