import copy
import math
import pickle

import pytest
import torch

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from tests.contract import (
    Small,
    all_moved,
    assert_same,
    backward,
    batch,
    copy_of,
    flat_state,
    hidden_sizes,
    train,
)

# Gradients that are not finite.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", ["default", Adam()], ids=["default", "Adam"])
def test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted(bad, rule):
    model = Small()
    optimizer = NeuralGraphOptimizer(model, rule=rule, weight_decay=0.1)
    train(model, optimizer, 2)
    assert optimizer.skipped_steps == 0
    params, state = copy_of(model), copy.deepcopy(flat_state(optimizer))
    backward(model)
    model.linear.bias.grad[1] = bad
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert_same(params, copy_of(model))
    assert_same(state, flat_state(optimizer))
    train(model, optimizer, 1)
    assert optimizer.skipped_steps == 1
    assert all_moved(params, copy_of(model))


def test_a_bad_first_step_leaves_no_trace():
    model = Small()
    clean = copy.deepcopy(model)
    optimizer, reference = NeuralGraphOptimizer(model), NeuralGraphOptimizer(clean)
    for each in (model, clean):
        backward(each)
    model.temperature.grad.fill_(math.nan)
    optimizer.step()
    for each, own in ((model, optimizer), (clean, reference)):
        train(each, own, 2)
    assert_same(copy_of(model), copy_of(clean))


def test_skipped_steps_are_kept_by_checkpoints_and_copies():
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters())
    for p in model.parameters():
        p.grad = torch.full_like(p, math.nan)
    optimizer.step()
    other = NeuralGraphOptimizer(Small().parameters())
    other.load_state_dict(optimizer.state_dict())
    copies = copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), other
    assert [each.skipped_steps for each in copies] == [1, 1, 1]
    other.step()
    assert other.skipped_steps == 1


# Checkpoints.


def test_a_checkpoint_brings_the_graph_along():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 1)
    for form in (lambda m: m.parameters(), lambda m: m.named_parameters(), lambda m: m):
        other = Small()
        resumed = NeuralGraphOptimizer(form(other))
        resumed.load_state_dict(optimizer.state_dict())
        assert resumed.graph.hidden == optimizer.graph.hidden
        assert len(resumed.graph.parameters) == 7
        train(other, resumed, 1)


def test_a_graph_that_is_known_is_not_replaced_by_a_checkpoint():
    model = Small()
    untraced = NeuralGraphOptimizer(model.parameters())
    train(model, untraced, 1)
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 1)
    optimizer.load_state_dict(untraced.state_dict())
    assert hidden_sizes(optimizer.graph) == [4]


def test_taking_a_checkpoint_is_taking_a_snapshot():
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    train(model, optimizer, 1)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    train(model, optimizer, 1)
    for number, state in before["state"].items():
        assert_same(state, saved["state"][number])


# Models that change after the optimizer was built.


@pytest.mark.parametrize("rule", ["default", Adam()], ids=["default", "Adam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_model_may_change_its_dtype(rule, dtype):
    model = Small()
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    train(model, optimizer, 2)
    model.to(dtype)
    before = copy_of(model)
    train(model, optimizer, 2)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not torch.equal(before["linear.weight"], model.linear.weight)
    model.float()
    train(model, optimizer, 1)
    assert all(p.isfinite().all() for p in model.parameters())


def test_another_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        model = Small().float()
        train(model, NeuralGraphOptimizer(model), 1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("rule", ["default", Adam()], ids=["default", "Adam"])
def test_a_model_may_move_to_the_gpu_and_back(rule):
    model = Small()
    rule = copy.deepcopy(rule)
    stay, reference = copy.deepcopy(model), None
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    reference = NeuralGraphOptimizer(stay, rule=copy.deepcopy(rule))
    train(stay, reference, 3)
    train(model, optimizer, 1)
    model.cuda()
    _train_on_gpu(model, optimizer, start=1)
    assert all(v.is_cuda for state in optimizer.state.values() for v in state.values())
    model.cpu()
    train(model, optimizer, 1, start=2)
    torch.testing.assert_close(copy_of(model), copy_of(stay), rtol=1e-3, atol=1e-4)


def _train_on_gpu(model, optimizer, start):
    x, y = (tensor.cuda() for tensor in batch(start))
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()
