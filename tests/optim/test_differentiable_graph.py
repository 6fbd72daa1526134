import copy
import gc
import importlib
import math
import sys

import pytest
import torch
from torch import nn

import ngopt
from ngopt.backends.dispatch import without_loops
from ngopt.errors import GradientError
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN
from ngopt.rules.adam import Adam
from tests.contract import (
    assert_same,
    batch,
    copy_of,
    hidden_sizes,
    hooks_of,
    loss_of,
    train,
)
from tests.optim.inner_loops import (
    Partial,
    make,
    outer_loss,
)

higher = pytest.importorskip("higher")


@pytest.fixture(autouse=True)
def operations_of_torch(monkeypatch):
    """What inner loops are made of: compiled loops and steps in place round otherwise."""
    monkeypatch.setattr(MatrixGNN, "steps_in_place", lambda *_: False)
    with without_loops():
        yield


def test_the_first_inner_forward_pass_is_traced_for_the_optimizer_too():
    model, optimizer = make(rule=Adam())
    assert not optimizer.graph.hidden
    with higher.innerloop_ctx(model, optimizer) as (fmodel, _):
        fmodel(batch()[0])
    traced = ngopt.trace(model, batch()[0])
    assert hidden_sizes(optimizer.graph) == hidden_sizes(traced) != []
    with higher.innerloop_ctx(model, optimizer) as (fmodel, _):
        assert hooks_of(fmodel) == []  # it knows already


def test_a_graph_that_is_given_is_used():
    model = Partial()
    graph = ngopt.trace(model, batch()[0])
    optimizer = NeuralGraphOptimizer(model, graph=graph)
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        assert hooks_of(fmodel) == []
        diffopt.step(loss_of(fmodel))
    assert optimizer.graph.layouts == graph.layouts


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
        self.right = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        self.right[0].bias.requires_grad_(False)

    def forward(self, x):
        return self.right(self.left(x))


def test_each_part_of_a_model_is_traced_for_itself_as_the_optimizer_does():
    def make():
        torch.manual_seed(0)
        model = Pair()
        parts = [{"model": model.left}, {"model": model.right, "lr": 0.1}]
        return model, NeuralGraphOptimizer(parts, lr=0.01)

    (model, optimizer), (reference, plain) = make(), make()
    x = torch.randn(8, 3)
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        for _ in range(3):
            diffopt.step(fmodel(x).square().mean())
    for _ in range(3):
        plain.zero_grad()
        reference(x).square().mean().backward()
        plain.step()
    assert hidden_sizes(optimizer.graph) == [5, 6]
    assert_same(dict(enumerate(reference.parameters())), dict(enumerate(fmodel.parameters())))


def test_weights_given_to_the_first_call_are_traced():
    model, optimizer = make(rule=Adam())
    with higher.innerloop_ctx(model, optimizer) as (fmodel, _):
        weights = [p + 1 for p in fmodel.parameters()]
        torch.manual_seed(0)
        out = fmodel(batch()[0], params=weights)
        assert fmodel.fast_params[0] is weights[0]
        torch.manual_seed(0)
        assert torch.equal(out, _with(model, weights)(batch()[0]))
    assert hidden_sizes(optimizer.graph) == hidden_sizes(ngopt.trace(model, batch()[0]))


def _with(model, weights):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return model


def test_a_step_without_forward_pass_warns_and_sees_tensor_by_tensor():
    model, optimizer = make()
    with higher.innerloop_ctx(model, optimizer) as (_, diffopt):
        loss = sum(p.square().sum() for p in diffopt._fmodel.parameters())
        with pytest.warns(UserWarning, match="before the first forward pass") as caught:
            diffopt.step(loss)
    assert [warning.filename for warning in caught] == [__file__]
    assert not optimizer.graph.hidden


def test_weights_without_a_functional_model():
    model, optimizer = make("parameters", rule=Adam())
    diffopt = higher.get_diff_optim(optimizer, model.parameters())
    start = [p.clone() for p in model.parameters()]
    loss = sum(p.square().sum() for p in start)
    new = diffopt.step(loss, params=start)
    loss.backward()
    optimizer.step()
    assert_same(dict(enumerate(new)), dict(enumerate(model.parameters())))


def test_an_optimizer_that_higher_makes():
    model, plain = make("parameters")
    fmodel = higher.monkeypatch(model)
    diffopt = higher.create_diff_optim(NeuralGraphOptimizer, {"lr": 1e-2}, fmodel=fmodel)
    for module in (fmodel, model):
        module.eval()
    for seed in range(3):
        diffopt.step(loss_of(fmodel, seed))
    train(model, plain)
    # It is not told what is frozen.
    trained = [(a, b) for a, b in zip(fmodel.parameters(), model.parameters(), strict=True)]
    assert all(torch.equal(a, b) for a, b in trained)


def test_a_loss_that_is_not_finite_changes_nothing_and_is_counted():
    model, optimizer = make()
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        diffopt.step(loss_of(fmodel))
        before = list(fmodel.parameters())
        diffopt.step(loss_of(fmodel) * math.nan)
        assert_same(dict(enumerate(before)), dict(enumerate(fmodel.parameters())))
        assert diffopt.skipped_steps == 1
        loss_of(fmodel).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in optimizer.rule.parameters())
    assert optimizer.skipped_steps == 0


def test_a_loss_that_reaches_no_parameter_changes_nothing():
    model, optimizer = make()
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        before = list(fmodel.parameters())
        diffopt.step(torch.ones((), requires_grad=True) * 2)
        assert_same(dict(enumerate(before)), dict(enumerate(fmodel.parameters())))


def test_sparse_gradients_are_refused():
    model = nn.Embedding(5, 2, sparse=True)
    optimizer = NeuralGraphOptimizer(model.parameters())
    with higher.innerloop_ctx(model, optimizer, track_higher_grads=False) as (fmodel, diffopt):
        loss = fmodel(torch.tensor([1, 2])).square().sum()
        with pytest.raises(GradientError, match="sparse"):
            diffopt.step(loss)


@pytest.mark.usefixtures("few_objects")
def test_inner_loops_leave_nothing_behind():
    model, optimizer = make(rule=Adam())
    hooks, counts = hooks_of(model), []
    for _ in range(4):
        outer_loss(model, optimizer)
        gc.collect()
        known = (torch.Tensor, nn.Module, ngopt.NeuralGraph)
        counts.append(sum(issubclass(type(each), known) for each in gc.get_objects()))
    assert counts[1:] == counts[1:2] * 3
    assert hooks_of(model) == hooks


def test_a_weight_may_be_thawed_on_the_way():
    model, optimizer = make(rule=Adam())
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        weights = diffopt.step(loss_of(fmodel))
        [place] = (i for i, weight in enumerate(weights) if not weight.requires_grad)
        weights[place] = weights[place] * torch.ones((), requires_grad=True)
        fmodel.update_params(weights)
        assert not torch.equal(diffopt.step(loss_of(fmodel))[place], weights[place])


def test_ngopt_needs_no_higher(monkeypatch):
    monkeypatch.setitem(sys.modules, "higher", None)
    monkeypatch.setitem(sys.modules, "higher.optim", None)
    monkeypatch.delitem(sys.modules, "ngopt.optim.differentiable")
    monkeypatch.delattr(ngopt.optim, "differentiable")
    with pytest.raises(ImportError):
        importlib.import_module("ngopt.optim.differentiable")
    importlib.reload(ngopt)
    model = nn.Linear(2, 1)
    optimizer = ngopt.NeuralGraphOptimizer(model)
    before = copy_of(model)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(before["weight"], model.weight)
