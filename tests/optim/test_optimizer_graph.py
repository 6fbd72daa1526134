import copy

import pytest
import torch
from torch import nn

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import trace
from ngopt.optim import joined_graph
from ngopt.optim.optimizer import NeuralGraphOptimizer
from tests.contract import (
    Small,
    assert_same,
    backward,
    batch,
    flat_state,
    hidden_sizes,
    hooks_of,
    train,
)


def test_no_step_but_the_first_does_work_on_the_graph(monkeypatch):
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    train(model, optimizer, 1)
    traced = optimizer.graph

    def fail(*_, **__):
        raise AssertionError("work on the graph")

    names = "join", "rename_parameters"
    for owner, name in (*((joined_graph, n) for n in names), (NeuralGraph, "per_tensor")):
        monkeypatch.setattr(owner, name, fail)
    train(model, optimizer, 2)
    assert optimizer.graph is traced


# Steps before the first forward pass.


def test_a_step_before_the_first_forward_pass_warns_once_and_state_survives_tracing():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    gradients = [torch.randn_like(p) for p in model.parameters()]

    def step():
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        optimizer.step()

    with pytest.warns(UserWarning, match=r"before the first forward pass.*\n?.*graph=ngopt.trace"):
        step()
    assert hidden_sizes(optimizer.graph) == []
    step()
    before = copy.deepcopy(flat_state(optimizer))
    model(batch()[0])
    assert hidden_sizes(optimizer.graph) == [4]
    assert_same(before, flat_state(optimizer))
    step()
    assert all(state["step"] == 3 for state in optimizer.state.values())


def test_a_copy_from_before_the_first_forward_pass_works():
    model, optimizer = Small(), None
    optimizer = NeuralGraphOptimizer(model)
    other, copied = copy.deepcopy((model, optimizer))
    backward(other)
    with pytest.warns(UserWarning, match="before the first forward pass"):
        copied.step()
    train(other, copied, 1)
    train(model, optimizer, 1)
    assert hidden_sizes(optimizer.graph) == [4]


# A graph given by the user.


@pytest.mark.parametrize(
    "form",
    [
        lambda m, g: NeuralGraphOptimizer(m, graph=g),
        lambda m, g: NeuralGraphOptimizer(m.parameters(), graph=g),
        lambda m, g: NeuralGraphOptimizer(m.named_parameters(), graph=g),
        lambda m, g: NeuralGraphOptimizer([*m.parameters()][::-1], model=m, graph=g),
        lambda m, g: NeuralGraphOptimizer([m.linear.weight], model=m, graph=g),
    ],
)
def test_a_given_graph_is_used_at_once(form):
    model = Small()
    graph = trace(model, batch()[0])
    optimizer = form(model, graph)
    assert optimizer.graph == graph
    assert hooks_of(model) == []
    train(model, optimizer, 1)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda m, g: NeuralGraphOptimizer(m, graph=g), "no parameter `temperature`"),
        (lambda m, g: NeuralGraphOptimizer(m.named_parameters(), graph=g), "no parameter"),
        (lambda m, g: NeuralGraphOptimizer(m.parameters(), graph=g), "the 7 tensors given"),
        (lambda m, g: NeuralGraphOptimizer(nn.Linear(9, 9), graph=g), r"shape \(9, 9\)"),
    ],
)
def test_the_graph_of_another_model_is_refused(form, message):
    graph = NeuralGraph.per_tensor({"weight": (3, 2), "bias": (3,)})
    model = Small()
    with pytest.raises(GraphError, match=message):
        form(model, graph)
    assert hooks_of(model) == []


def test_lone_tensors_can_join_a_given_graph():
    model, extra = Small(), nn.Parameter(torch.ones(2))
    optimizer = NeuralGraphOptimizer(model, graph=trace(model, batch()[0]))
    optimizer.add_param_group({"params": [extra]})
    extra.grad = torch.ones(2)
    train(model, optimizer, 1)
    assert (extra < 1).all()
