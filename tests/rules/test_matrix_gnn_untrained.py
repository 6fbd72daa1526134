"""What a rule with a fresh theta does."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from ngopt.features.scale import rms
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import GRAPHS, MLP, draw, warm, zoo_graph
from tests.rules.untrained import rough_polar_factor, untrained_update

BASE_UPDATES = {
    "default": {},
    "orthogonal": {"orthogonal": 5, "slow": 1.5, "equal_rows": False},
    "aged": {"nesterov_reference": 2.0, "depth_reference": 1.0},
    "adam_like": {"orthogonal": 0, "slow": 4.0, "fan_power": 0.25, "fan_free": 0.5},
}
DESCRIBED = {**GRAPHS, **{name: zoo_graph(name) for name in ("grouped", "lstm")}}
every_graph = pytest.mark.parametrize("described", DESCRIBED.values(), ids=DESCRIBED)


@every_graph
@pytest.mark.parametrize("base_update", BASE_UPDATES.values(), ids=BASE_UPDATES)
def test_fresh_rule_takes_the_untrained_step(base_update, described):
    rule = MatrixGNN(base_update=base_update)
    parameters, gradients, state = warm(rule, described, steps=3)
    update, new = rule(parameters, gradients, state, described)
    filled = {"fast": 1 - 0.9**4, "slow": 1 - 0.99**4, "square": 1 - 0.999**4}
    for name, layout in described.parameters.items():
        moments = [layout.views(new[name][key] / full) for key, full in filled.items()]
        given = layout.views(parameters[name]), layout.views(gradients[name])
        arrays = layout.views(update[name]), *given, *moments
        for part, found, weight, gradient, *means in zip(layout.bundles, *arrays, strict=True):
            share = min(float(new[name]["evidence"]), 0.1 * 1.6**3)
            seen = layout, part, weight, gradient, means, 4, described.shortest_path, share
            expected = untrained_update(rule.base_update, *seen)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["layer.weight_ih_l0", "layer.weight_hh_l0"])
def test_the_gates_of_an_lstm_are_one_matrix(name):
    described = DESCRIBED["lstm"]
    rule = MatrixGNN(base_update={"orthogonal": 4, "equal_rows": False}, momentum_dtype="float32")
    _, gradients, _ = warm(rule, described)
    state = rule.init_state(gradients, described)
    update, _ = rule(gradients, gradients, state, described)
    expected = rough_polar_factor(gradients[name], steps=4)
    torch.testing.assert_close(update[name] / rms(update[name]), expected / rms(expected))


def test_fresh_rule_can_follow_torch_adam():
    plain = {"orthogonal": 0, "slow": 0.0, "nesterov": 0.0, "fan_power": 0.0, "fan_free": 1.0}
    plain |= {"depth_power": 0.0, "weight_reference": 0.0, "evidence_least": 1.0}
    rule = MatrixGNN(momentum_dtype="float32", base_update=plain)
    ours = draw(MLP, 0, torch.float32)
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in ours.items()}
    adam = torch.optim.Adam(theirs.values(), lr=1e-2)
    state = rule.init_state(ours, MLP)
    for step in range(10):
        gradients = draw(MLP, step + 1, torch.float32)
        for name, tensor in theirs.items():
            tensor.grad = gradients[name]
        adam.step()
        with torch.no_grad():
            update, state = rule(ours, gradients, state, MLP)
        ours = {name: tensor - 1e-2 * update[name] for name, tensor in ours.items()}
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor.detach(), rtol=1e-5, atol=1e-6)


def test_weights_leave_zero():
    (x, target), model = draw_regression(), nn.Linear(8, 4)
    nn.init.zeros_(model.weight)
    optimizer = NeuralGraphOptimizer(model, rule=MatrixGNN(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        loss = mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * target.square().mean()


def draw_regression():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, generator=generator) for size in ((64, 8), (8, 4)))
    return x, x @ weight
