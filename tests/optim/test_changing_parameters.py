"""Parameters that appear, change or are odd while training goes on."""

import pytest
import torch
from torch import nn

from ngopt.backends.dispatch import without_loops
from ngopt.errors import GraphError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import all_moved, assert_same, copy_of, hidden_sizes

RULES = {"Adam": Adam, "MatrixGNN": lambda: MatrixGNN(width=4, hidden=2, context_every=4)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@pytest.fixture(autouse=True)
def _unrecorded():
    # Steps are few here: to record them would take longer than to make them.
    with without_loops():
        yield


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(model, optimizer, steps=12):
    """Steps of both kinds."""
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def trained(rule):
    model = net()
    optimizer = NeuralGraphOptimizer(model, rule=rule())
    train(model, optimizer)
    return model, optimizer


def assert_all_learn(model, optimizer):
    before = copy_of(model)
    train(model, optimizer)
    assert all_moved(before, copy_of(model))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    again = NeuralGraphOptimizer(optimizer.param_groups, rule=optimizer.rule)
    again.load_state_dict(optimizer.state_dict())


@every_rule
def test_a_layer_that_is_added_with_its_model_is_traced_and_learns(rule):
    model, optimizer = trained(rule)
    model.append(nn.Linear(2, 5))
    optimizer.add_param_group({"model": model, "params": list(model[-1].parameters())})
    assert_all_learn(model, optimizer)
    assert {2, 4} <= set(hidden_sizes(optimizer.graph))


@every_rule
def test_a_layer_that_takes_the_place_of_another_does_not_take_its_name(rule):
    model, optimizer = trained(rule)
    model.insert(2, nn.LayerNorm(4))  # what was `2.weight` is `3.weight` now
    optimizer.add_param_group({"model": model, "params": list(model[2].parameters())})
    assert_all_learn(model, optimizer)
    names = optimizer.state_dict()["ngopt"]["names"]
    assert len(set(names)) == len(names) == 6
    last = next(name for name in names if name.endswith("3.weight"))
    assert optimizer.graph.layout(last).shape == (2, 4)


@every_rule
def test_a_layer_may_be_replaced(rule):
    model, optimizer = trained(rule)
    gone = model[2]
    before = copy_of(gone)
    gone.zero_grad()
    model[2] = nn.Linear(4, 5)
    optimizer.add_param_group({"model": model, "params": list(model[2].parameters())})
    assert_all_learn(model, optimizer)
    assert_same(before, copy_of(gone))


@every_rule
def test_a_model_may_take_another_way_than_when_it_was_traced(rule):
    model, optimizer = trained(rule)
    model[1] = nn.Sequential(nn.ReLU(), nn.Unflatten(1, (2, 2)), nn.Flatten())
    assert_all_learn(model, optimizer)


@every_rule
def test_a_parameter_of_another_shape_is_refused_until_its_state_is_dropped(rule):
    model, optimizer = trained(rule)
    pruned = [model[0].weight, model[0].bias, model[2].weight]
    for parameter, part in zip(pruned, (slice(3), slice(3), (..., slice(3))), strict=True):
        parameter.grad, parameter.data = None, parameter.detach()[part].clone()
    before = copy_of(model)
    with pytest.raises(GraphError, match=r"state of `0.weight`.*\(4, 3\).*has \(3, 3\)"):
        train(model, optimizer)
    assert_same(before, copy_of(model))
    for parameter in pruned:
        del optimizer.state[parameter]
    assert_all_learn(model, optimizer)


@every_rule
def test_parameters_may_move_to_another_device(rule):
    model, optimizer = trained(rule)
    theta = copy_of(optimizer.rule)
    saved = optimizer.state_dict()["ngopt"]
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.to("meta")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    state = [value for kept in optimizer.state.values() for value in kept.values()]
    assert {value.device.type for value in (*state, *model.parameters())} == {"meta"}
    # What is no number leaves no trace in what are numbers.
    assert_same(theta, copy_of(optimizer.rule))
    assert {**optimizer.state_dict()["ngopt"], "refreshing": None} == {**saved, "refreshing": None}


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3, 3)], ids=str)
@every_rule
def test_tensors_without_elements(rule, shape):
    parameters = [nn.Parameter(torch.ones(s)) for s in (shape, (2, 3))]
    optimizer = NeuralGraphOptimizer(parameters, rule=rule())
    for _ in range(12):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert parameters[0].shape == shape
    assert (parameters[1] < 1).all()


@pytest.mark.parametrize("shape", [(0, 3), (2**31,), (2**21, 2**10)], ids=str)
@every_rule
def test_meta_tensors_of_no_elements_and_of_more_than_32_bits_can_count(rule, shape, monkeypatch):
    parameter = nn.Parameter(torch.empty(shape, device="meta"))
    optimizer = NeuralGraphOptimizer([parameter], rule=rule())
    for fresh in (True, False):
        optimizer._context_refresh.step = 0 if fresh else 11  # without the steps between
        parameter.grad = torch.empty_like(parameter)
        optimizer.step()
    shapes = {value.shape for value in optimizer.state[parameter].values()}
    assert parameter.shape in shapes


def tiny_tensors(count, rule):
    parameters = [nn.Parameter(torch.ones(i % 3 + 1)) for i in range(count)]
    optimizer = NeuralGraphOptimizer(parameters, rule=rule)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all((parameter < 1).all() for parameter in parameters)
    assert len(optimizer.state_dict()["ngopt"]["spikes"]) in (0, count)


@every_rule
def test_thousands_of_tiny_tensors(rule):
    tiny_tensors(3_000, rule())
