from functools import partial

import pytest
import torch
from torch import nn

from ngopt.errors import RuleError
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.muon import Muon
from tests.rules.against_torch import DECAY, DTYPES, LR, largest_error
from tests.rules.rule_inputs import GRAPHS, draw
from tests.rules.untrained import by_singular_values


def run(rule, described, steps=3, dtype=torch.float64):
    """Updates of a few steps on random gradients."""
    parameters = draw(described, 0, dtype)
    state = rule.init_state(parameters, described)
    updates = []
    for seed in range(steps):
        update, state = rule(parameters, draw(described, seed + 1, dtype), state, described)
        updates.append(update)
    return updates, state


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("shape", "decay"), [((7, 3), 0.0), ((7, 3), DECAY), ((4, 9), DECAY)])
def test_equals_torch_in_half_precision(shape, decay, nesterov, adjust, dtype):
    start = torch.randn(shape, dtype=dtype)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    rule = Muon(momentum=0.9, nesterov=nesterov, adjust=adjust, precision="bfloat16")
    first = NeuralGraphOptimizer([ours], LR, rule=rule, weight_decay=decay)
    second = torch.optim.Muon(
        [theirs], LR, decay, 0.9, nesterov=nesterov, adjust_lr_fn=adjust, ns_steps=5
    )
    for _ in range(100):
        ours.grad = torch.randn(shape, dtype=dtype)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
        assert (ours - theirs).abs().max() < 1e-6 * theirs.abs().max()
    assert (ours - start).abs().max() > 0.05


def test_equals_torch_on_the_gradients_of_a_convnet():
    make = partial(torch.optim.Muon, weight_decay=DECAY)
    rule = Muon(precision="bfloat16")
    error, moved = largest_error(
        rule, make, torch.float32, decay=DECAY, chosen=lambda parameter: parameter.dim() == 2
    )
    assert error < 1e-6
    assert moved > 1e-2


@pytest.mark.parametrize("shape", [(6, 4), (3, 8), (4, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("nesterov", [True, False])
def test_full_precision_against_singular_values(shape, nesterov):
    described = NeuralGraph.per_tensor({"w": shape})
    updates, _ = run(Muon(momentum=0.8, nesterov=nesterov), described)
    mean = torch.zeros(shape, dtype=torch.float64)
    rows, columns = shape[0], mean[0].numel()
    for seed, update in enumerate(updates):
        gradient = draw(described, seed + 1)["w"]
        mean = 0.8 * mean + 0.2 * gradient
        ahead = 0.2 * gradient + 0.8 * mean if nesterov else mean
        expected = max(1, rows / columns) ** 0.5 * by_singular_values(ahead.flatten(1))
        torch.testing.assert_close(update["w"], expected.view(shape), rtol=1e-8, atol=1e-9)


class Positioned(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(3, 4))
        self.hidden = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.hidden(x + self.positions).relu())


def test_all_but_hidden_matrices_can_be_adams():
    described = trace(Positioned(), torch.randn(2, 3, 4))
    whole, _ = run(Muon(), described)
    hidden, state = run(Muon(hidden_only=True), described)
    adams, _ = run(Adam((0.9, 0.95)), described)
    for one, other, adam in zip(hidden, whole, adams, strict=True):
        assert torch.equal(one["hidden.weight"], other["hidden.weight"])
        for name in ("positions", "head.weight"):
            assert torch.equal(one[name], adam[name])
            assert not torch.equal(one[name], other[name])
    assert state["head.weight"]["exp_avg_sq"].shape == (2, 5)


def test_everything_else_gets_adams_direction():
    described = GRAPHS["attention_block"]
    updates, state = run(Muon(betas=(0.8, 0.9), adam_scale=3.0), described)
    adams, _ = run(Adam((0.8, 0.9)), described)
    vectors = {name for name, item in described.parameters.items() if len(item.shape) < 2}
    for name in {*vectors, "embedding.weight"}:
        torch.testing.assert_close(updates[-1][name], 3 * adams[-1][name])
        assert state[name]["exp_avg_sq"].shape == described.layout(name).shape
    assert state["up.weight"]["exp_avg_sq"].numel() == 0
    assert {frozenset(tensors) for tensors in state.values()} == {
        frozenset({"step", "exp_avg", "exp_avg_sq"})
    }


def test_parts_and_groups_are_matrices_of_their_own():
    described = GRAPHS["attention_block"]
    updates, _ = run(Muon(nesterov=False), described, steps=1)
    gradient = draw(described, 1)
    parts = [slice(0, 8), slice(8, 16), slice(16, 28)]
    for part in parts:
        expected = by_singular_values(gradient["qkv.weight"][part])
        expected = expected * max(1, expected.shape[0] / 8) ** 0.5
        torch.testing.assert_close(updates[0]["qkv.weight"][part], expected)
    described = GRAPHS["residual_convnet"]
    updates, _ = run(Muon(nesterov=False), described, steps=1)
    for group in draw(described, 1)["conv_b.weight"].unflatten(0, (4, 2)).flatten(2):
        expected = by_singular_values(group)
        found = updates[0]["conv_b.weight"].unflatten(0, (4, 2)).flatten(2)
        assert any(torch.allclose(one, expected) for one in found)


@pytest.mark.parametrize("order", [0, 1], ids=["found", "lost"])
def test_begins_anew_when_a_kind_changes(order):
    shapes = {"w": (6, 4)}
    plain = NeuralGraph.per_tensor(shapes)
    item = plain.layouts["w"]
    traced = NeuralGraph(
        plain.spaces, {"w": Layout("w", item.shape, item.bundles, "embedding")}, {}
    )
    before, after = (plain, traced) if order == 0 else (traced, plain)
    rule = Muon()
    _, state = run(rule, before)
    parameters, gradients = draw(plain, 0), draw(plain, 9)
    update, new = rule(parameters, gradients, state, after)
    fresh = rule(parameters, gradients, rule.init_state(parameters, after), after)
    torch.testing.assert_close((update, new), fresh, rtol=0, atol=0)


def test_config_builds_it_again():
    rule = Muon(0.9, False, 3, [1.0, 2.0, 3.0], "match_rms_adamw", "bfloat16", [0.1, 0.2], 1e-6, 2)
    assert Muon(**rule.config).config == rule.config
    assert rule.config["coefficients"] == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 1.0},
        {"steps": 0},
        {"coefficients": (1.0, 2.0)},
        {"adam_scale": -1.0},
        {"adjust": "other"},
        {"precision": "float16"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"(?s)Muon got .*(Give|Use)"):
        Muon(**options)
