from functools import partial

import pytest
import torch
from torch import nn

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from tests.contract import Small, copy_of, train
from tests.rules.against_torch import DECAY, DTYPES, largest_error

BETAS = [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99), (0.9, 0.0)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("make", "l2", "decay"),
    [
        (torch.optim.Adam, 0.0, 0.0),
        (partial(torch.optim.Adam, weight_decay=DECAY), DECAY, 0.0),
        (partial(torch.optim.AdamW, weight_decay=DECAY), 0.0, DECAY),
    ],
    ids=["Adam", "Adam with l2", "AdamW"],
)
def test_equals_torch_on_the_gradients_of_a_convnet(make, l2, decay, dtype):
    error, moved = largest_error(Adam(l2=l2), make, dtype, lr=2**-10, decay=decay)
    assert error < 1e-6
    assert moved > 1e-2


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_torch_over_gradients_of_all_sizes(betas, decay, dtype):
    # Near 1, torch's own rounding of the factor 1 - lr * weight_decay adds up to more than 1e-6.
    weight = 0.1 * torch.randn(4, 3, dtype=dtype)
    ours, torchs = (nn.Parameter(weight.clone()) for _ in range(2))
    first = NeuralGraphOptimizer([ours], rule=Adam(betas, 1e-8), weight_decay=decay)
    second = torch.optim.AdamW([torchs], betas=betas, weight_decay=decay)
    scales = 10.0 ** torch.arange(-2.0, 2.0)[:, None]
    for _ in range(100):
        gradient = (torch.randn(4, 3) * scales).to(dtype)
        ours.grad, torchs.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-6)
    assert (ours - weight).abs().max() > 1e-3


@pytest.mark.parametrize("betas", BETAS[:3])
def test_nesterov_looks_ahead_by_the_first_beta(betas):
    described = NeuralGraph.per_tensor({"w": (3,)})
    rule, params = Adam(betas, 1e-6, nesterov=True), {"w": torch.randn(3).double()}
    state = rule.init_state(params, described)
    mean = square = torch.zeros(3).double()
    for step in range(1, 6):
        gradient = torch.randn(3).double()
        updates, state = rule(params, {"w": gradient}, state, described)
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        ahead = (betas[0] * mean + (1 - betas[0]) * gradient) / (1 - betas[0] ** step)
        expected = ahead / ((square / (1 - betas[1] ** step)).sqrt() + 1e-6)
        torch.testing.assert_close(updates["w"], expected, rtol=1e-6, atol=1e-9)


def test_equals_torch_in_a_training_run():
    model, other = Small(), Small()
    other.load_state_dict(model.state_dict())
    train(model, NeuralGraphOptimizer(model.parameters(), rule=Adam()), 100)
    train(other, torch.optim.Adam(other.parameters()), 100)
    torch.testing.assert_close(copy_of(model), copy_of(other), rtol=0, atol=1e-6)


def test_half_precision_is_computed_in_single():
    described = NeuralGraph.per_tensor({"w": (3,)})
    rule, params = Adam(), {"w": torch.ones(3, dtype=torch.bfloat16)}
    state = rule.init_state(params, described)
    updates, after = rule(params, {"w": torch.full_like(params["w"], 0.1)}, state, described)
    assert updates["w"].dtype == torch.bfloat16
    for tensors in (state, after):
        assert {tensor.dtype for tensor in tensors["w"].values()} == {torch.float32}


def test_config_builds_it_again():
    rule = Adam((0.5, 0.75), 1e-3, 0.25)
    assert Adam(**rule.config).config == {"betas": (0.5, 0.75), "eps": 1e-3, "l2": 0.25}


def test_it_has_no_weights_and_changes_no_argument():
    rule = Adam()
    described = NeuralGraph.per_tensor({"w": (2,)})
    assert not rule.state_dict()
    params, grads = {"w": torch.ones(2)}, {"w": torch.ones(2)}
    state = rule.init_state(params, described)
    updates, new = rule(params, grads, state, described)
    assert state["w"]["step"] == 0
    assert not state["w"]["exp_avg"].any()
    assert new["w"]["step"] == 1
    torch.testing.assert_close(updates["w"], torch.ones(2))


def test_derivatives_are_finite_where_gradients_are_zero():
    rule = Adam()
    described = NeuralGraph.per_tensor({"w": (3,)})
    gradient = torch.tensor([0.0, 1e-30, 1.0], requires_grad=True)
    params = {"w": torch.ones(3)}
    state = rule.init_state(params, described)
    for _ in range(3):
        updates, state = rule(params, {"w": gradient}, state, described)
    (derivative,) = torch.autograd.grad(updates["w"].sum(), gradient)
    assert derivative.isfinite().all()


@pytest.mark.parametrize(
    "arguments",
    [((1.0, 0.9),), ((0.9, -0.1),), ((0.9,),), ((0.9, 0.9), -1.0), ((0.9, 0.9), 1e-8, -1.0)],
)
def test_options_that_make_no_sense(arguments):
    with pytest.raises(RuleError, match="Adam got betas="):
        Adam(*arguments)
