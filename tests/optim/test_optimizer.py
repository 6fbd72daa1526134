import math

import pytest
import torch
from torch import nn

from ngopt.errors import GradientError, GraphError, OptionError, RuleError
from ngopt.graph.trace import trace
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam
from ngopt.rules.library import load_rule
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import (
    Small,
    all_moved,
    assert_same,
    backward,
    batch,
    copy_of,
    hidden_sizes,
    hooks_of,
    train,
)

# The forms of the first argument.


@pytest.mark.parametrize(
    "form",
    [
        lambda m: NeuralGraphOptimizer(m),
        lambda m: NeuralGraphOptimizer(m.parameters(), model=m),
        lambda m: NeuralGraphOptimizer(m.named_parameters(), model=m),
        lambda m: NeuralGraphOptimizer([{"model": m}]),
        lambda m: NeuralGraphOptimizer([{"params": m.parameters(), "model": m}]),
        lambda m: NeuralGraphOptimizer(
            [{"params": [*m.linear.parameters()]}, {"params": [*m.convolution.parameters()]}],
            model=m,
        ),
    ],
)
def test_the_graph_is_traced_in_the_first_forward_pass(form):
    model = Small()
    optimizer = form(model)
    assert optimizer.graph.hidden == ()
    train(model, optimizer, 2)
    assert optimizer.graph == trace(Small(), batch()[0])
    assert hidden_sizes(optimizer.graph) == [4]
    assert hooks_of(model) == []


@pytest.mark.parametrize(
    "form",
    [
        lambda m: NeuralGraphOptimizer(m.parameters()),
        lambda m: NeuralGraphOptimizer(m.named_parameters()),
        lambda m: NeuralGraphOptimizer([{"params": m.parameters()}]),
    ],
)
def test_without_a_model_each_tensor_is_a_graph_by_itself(form):
    model = Small()
    optimizer = form(model)
    train(model, optimizer, 1)
    assert hooks_of(model) == []
    assert hidden_sizes(optimizer.graph) == []
    shapes = [layout.shape for layout in optimizer.graph.parameters.values()]
    assert shapes == [tuple(p.shape) for p in model.parameters()]


def test_names_of_the_user_are_kept():
    optimizer = NeuralGraphOptimizer(Small().named_parameters())
    assert list(optimizer.graph.parameters) == [name for name, _ in Small().named_parameters()]


def test_parameters_beside_a_model_may_be_of_elsewhere():
    model, extra = Small(), nn.Parameter(torch.ones(2))
    optimizer = NeuralGraphOptimizer([*model.parameters(), extra], model=model)
    backward(model)
    extra.grad = torch.ones(2)
    optimizer.step()
    assert hidden_sizes(optimizer.graph) == [4]
    assert (extra < 1).all()


def test_two_models_with_the_same_names_are_two_graphs():
    first, second = Small(), nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, 2))
    third = Small()
    optimizer = NeuralGraphOptimizer([{"model": first}, {"model": second}, {"model": third}])
    second(torch.ones(1, 2)).sum().backward()
    backward(third)
    backward(first)
    assert hidden_sizes(optimizer.graph) == [4, 4, 7]
    assert len(optimizer.graph.parameters) == 7 + 4 + 7
    before = copy_of(first), copy_of(third)
    optimizer.step()
    assert all_moved(before[0], copy_of(first))
    assert all_moved(before[1], copy_of(third))


def test_a_model_that_is_added_later_is_traced_too():
    first, second = Small(), Small()
    optimizer = NeuralGraphOptimizer(first)
    train(first, optimizer, 1)
    optimizer.add_param_group({"model": second, "lr": 0.5})
    backward(second)
    optimizer.step()
    assert hidden_sizes(optimizer.graph) == [4, 4]


def test_the_order_of_the_groups_does_not_matter():
    models = [Small(), Small()]
    models[1].load_state_dict(models[0].state_dict())
    groups = [
        [{"params": [*m.convolution.parameters()]}, {"params": [*m.linear.parameters()]}]
        for m in models
    ]
    for model, chosen in zip(models, (groups[0], groups[1][::-1]), strict=True):
        train(model, NeuralGraphOptimizer(chosen, model=model))
    torch.testing.assert_close(copy_of(models[0]), copy_of(models[1]))


def test_a_framework_may_replace_the_tensors_of_a_group():
    model, other = Small(), Small()
    optimizer = NeuralGraphOptimizer(model, rule=Adam())
    optimizer.param_groups[0]["params"] = list(other.parameters())
    model(batch()[0])
    before = copy_of(other)
    train(other, optimizer, 1)
    assert all_moved(before, copy_of(other))
    assert hidden_sizes(optimizer.graph) == [4]


def test_a_framework_may_flatten_the_tensors_of_a_group():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    flat = nn.Parameter(model.linear.weight.detach().reshape(-1))
    optimizer.param_groups[0]["params"] = [
        flat if p is model.linear.weight else p for p in model.parameters()
    ]
    backward(model)
    flat.grad = model.linear.weight.grad.reshape(-1)
    before = flat.detach().clone()
    optimizer.step()
    assert (before != flat).all()
    assert optimizer.graph.layout("linear.weight").shape == (12,)


def test_a_lazy_module():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=Adam())
    assert "tensor:0" not in optimizer.graph.parameters
    model(torch.ones(2, 5)).sum().backward()
    optimizer.step()
    assert optimizer.graph.layout("tensor:0").shape == (3, 5)


# Errors that change nothing.


def _complex():
    return [nn.Parameter(torch.ones(1, dtype=torch.cfloat))]


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        (lambda m: m, {"rule": "no such rule"}, RuleError, "no rule `no such rule`"),
        (lambda m: m, {"lr": -1.0}, OptionError, "lr=-1"),
        (lambda m: m, {"weight_decay": -1.0}, OptionError, "weight_decay=-1"),
        (lambda m: nn.ReLU(), {}, OptionError, "has no parameters"),
        (lambda m: [*m.parameters()] * 2, {}, OptionError, "is given twice"),
        (lambda m: [{"model": m}, {"model": m}], {}, OptionError, "is given twice"),
        (lambda m: [{"model": m, "lr": math.nan}], {}, OptionError, "lr=nan"),
        (lambda m: [{"model": m}, {"params": _complex()}], {}, GradientError, "complex"),
        (lambda m: _complex(), {"model": Small()}, GradientError, "complex"),
        (lambda m: [nn.Parameter(torch.ones(1))], {"model": Small()}, GraphError, "none of the"),
    ],
)
def test_arguments_that_make_no_sense(given, options, error, message):
    model = Small()
    with pytest.raises(error, match=message):
        NeuralGraphOptimizer(given(model), **options)
    assert hooks_of(model) == []


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_gradients_that_no_rule_can_use_change_nothing(kind):
    model = nn.Embedding(4, 2, sparse=kind == "sparse")
    other = nn.Parameter(torch.ones(2))
    optimizer = NeuralGraphOptimizer([other, *model.parameters()], rule=Adam())
    other.grad = torch.ones(2)
    model(torch.tensor([1])).sum().backward()
    if kind == "complex":
        model.weight.grad = None
        model.weight.data = model.weight.data.to(torch.cfloat)
        model.weight.grad = torch.ones(4, 2, dtype=torch.cfloat)
    before = copy_of(model)
    with pytest.raises(GradientError, match=f"`tensor:1`.*{kind}"):
        optimizer.step()
    assert torch.equal(other, torch.ones(2))
    assert_same(before, copy_of(model))
    assert not optimizer.state


def test_a_refused_group_changes_nothing():
    model, other = Small(), Small()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 1)
    group = {"model": other, "lr": -1.0}
    with pytest.raises(OptionError, match="lr=-1"):
        optimizer.add_param_group(group)
    assert group == {"model": other, "lr": -1.0}
    assert hooks_of(other) == []
    assert len(optimizer.param_groups) == 1
    train(model, optimizer, 1)


def test_momentum_cannot_be_cycled_because_there_is_none_to_set():
    with pytest.raises(ValueError, match="cycle_momentum"):
        torch.optim.lr_scheduler.OneCycleLR(NeuralGraphOptimizer(Small()), 0.1, 10)


# Small things.


def test_a_tensor_lr_may_have_one_element():
    models = [Small(), Small()]
    models[1].load_state_dict(models[0].state_dict())
    for model, lr in zip(models, (torch.tensor(1e-2), torch.tensor([1e-2])), strict=True):
        train(model, NeuralGraphOptimizer(model, lr))
    assert_same(copy_of(models[0]), copy_of(models[1]))
    assert models[0].temperature.shape == ()


def test_a_rule_may_be_shared():
    rule = load_rule("default")
    first, second = Small(), Small()
    second.load_state_dict(first.state_dict())
    optimizers = [NeuralGraphOptimizer(m, rule=rule) for m in (first, second)]
    assert all(optimizer.rule is rule for optimizer in optimizers)
    for seed in range(2):
        for model, optimizer in zip((first, second), optimizers, strict=True):
            train(model, optimizer, 1, start=seed)
    assert_same(copy_of(first), copy_of(second))


def test_learning_rate_is_the_rules_unless_given():
    rule, weights = Adam(), [torch.ones(2, requires_grad=True)]
    assert NeuralGraphOptimizer(weights).param_groups[0]["lr"] == load_rule("default").lr
    assert NeuralGraphOptimizer(weights, rule=MatrixGNN()).param_groups[0]["lr"] == MatrixGNN.lr
    rule.lr = 0.25
    assert NeuralGraphOptimizer(weights, rule=rule).param_groups[0]["lr"] == 0.25
    assert NeuralGraphOptimizer(weights, 0.5, rule=rule).param_groups[0]["lr"] == 0.5
