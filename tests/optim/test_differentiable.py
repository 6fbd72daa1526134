import pytest
import torch

from ngopt.backends.dispatch import without_loops
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN
from ngopt.rules.adam import Adam
from tests.contract import (
    Small,
    assert_same,
    loss_of,
    train,
)
from tests.optim.inner_loops import (
    REMEMBERING,
    Partial,
    assert_equal_trajectories,
    inner,
    make,
    outer_loss,
)
from tests.rules.table import RULES

higher = pytest.importorskip("higher")


@pytest.fixture(autouse=True)
def operations_of_torch(monkeypatch):
    """What inner loops are made of: compiled loops and steps in place round otherwise."""
    monkeypatch.setattr(MatrixGNN, "steps_in_place", lambda *_: False)
    with without_loops():
        yield


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "untracked"])
@pytest.mark.parametrize("stepped", [0, 2], ids=["fresh", "stepped"])
@pytest.mark.parametrize("form", ["model", "parameters", "groups"])
def test_the_inner_loop_is_what_the_optimizer_does_bitwise(form, stepped, tracked):
    assert_equal_trajectories(lambda: make(form), stepped, track_higher_grads=tracked)


@pytest.mark.parametrize("stepped", [0, 2], ids=["fresh", "stepped"])
@pytest.mark.parametrize("name", REMEMBERING)
def test_the_memory_of_a_rule_goes_along(name, stepped):
    assert_equal_trajectories(lambda: make(rule=RULES[name]()), stepped)


def test_the_rule_s_own_weight_decay_is_the_same():
    rule = MatrixGNN(base_update={"late_decay": 20.0, "late_decay_reference": 1.0})
    assert_equal_trajectories(lambda: make(rule=rule, weight_decay=None), 2)


def difference(function, tensors, along, step=1e-6):
    """Central difference of a function when the tensors move along directions."""
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(tensors, along, alpha=sign * step)
        values.append(function().item())
        with torch.no_grad():
            torch._foreach_sub_(tensors, along, alpha=sign * step)
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("stepped", [0, 2], ids=["fresh", "stepped"])
@pytest.mark.parametrize("name", ["small_fc", "lstm", "ng_gnn with memory"])
def test_meta_gradients_are_finite_differences(name, stepped):
    rule, model = RULES[name]().double(), Small().double()
    lr = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    # By default, the lower of two learning rates would be taken for that of a schedule.
    options = {"weight_decay": 0.1, "anneal": True}
    optimizer = NeuralGraphOptimizer(model, lr=lr, rule=rule, **options)
    train(model, optimizer, stepped)
    with torch.no_grad():  # away from where theta starts, at which much of it does not count
        for weight in rule.parameters():
            weight += 0.1 * torch.randn_like(weight)
    for tensors in (list(rule.parameters()), [lr]):
        along = [0.1 * torch.randn_like(tensor) for tensor in tensors]
        found = torch.autograd.grad(outer_loss(model, optimizer), tensors, materialize_grads=True)
        expected = difference(lambda: outer_loss(model, optimizer), tensors, along)
        total = sum((f * d).sum().item() for f, d in zip(found, along, strict=True))
        assert abs(expected) > 1e-5
        assert total == pytest.approx(expected, rel=1e-5)


def test_default_rule_and_initial_weights_get_meta_gradients():
    model, optimizer = make()
    *_, fmodel = inner(model, optimizer, 2, copy_initial_weights=False)
    loss_of(fmodel, 100).backward()
    for given in (model, optimizer.rule):
        gradients = [p.grad for p in given.parameters() if p.grad is not None]
        assert any(g.abs().max() > 0 for g in gradients)
        assert all(g.isfinite().all() for g in gradients)


def test_lr_of_each_group_may_be_a_tensor():
    model = Partial()
    first, second = (torch.tensor([0.1], requires_grad=True) for _ in range(2))
    derived = second * 0.5
    groups = [
        {"params": [*model.convolution.parameters()], "lr": first},
        {"params": [*model.linear.parameters(), model.temperature], "lr": derived},
    ]
    optimizer = NeuralGraphOptimizer(groups, rule=Adam())
    fast, _, fmodel = inner(model, optimizer)
    assert fast["temperature"].shape == ()
    loss_of(fmodel).backward()
    assert first.grad.abs() > 0
    assert second.grad.abs() > 0


def test_a_step_overrides_options():
    model, optimizer = make("groups", rule=Adam())
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        lr = torch.tensor(0.5, requires_grad=True)
        before = [p.clone() for p in fmodel.parameters()]
        diffopt.step(loss_of(fmodel), override={"lr": [0.0, lr, 0.0]})
        after = list(fmodel.parameters())
        moved = {
            name
            for (name, _), a, b in zip(model.named_parameters(), before, after, strict=True)
            if not torch.equal(a, b)
        }
        assert moved == {"linear.weight", "linear.bias", "temperature"}
        [derivative] = torch.autograd.grad(loss_of(fmodel), [lr])
        assert derivative.abs() > 0
        diffopt.step(loss_of(fmodel), override={"lr": [0.0]})
        assert_same(dict(enumerate(after)), dict(enumerate(fmodel.parameters())))


def test_all_options_that_higher_makes_trainable_are():
    model, optimizer = make("groups", rule=Adam(), weight_decay=0.0)
    override = higher.optim.get_trainable_opt_params(optimizer)
    fast, _, fmodel = inner(model, optimizer, override=override)
    loss_of(fmodel, 100).backward()
    assert all(lr.grad.abs() > 0 for lr in override["lr"])
    assert [decay.grad.abs() > 0 for decay in override["weight_decay"]] == [True, True, True]
    plain, *_ = inner(model, optimizer)
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected)


def test_nothing_is_tracked_if_not_asked_for():
    model, optimizer = make(rule=RULES["lstm"]())  # whose memory depends on theta
    fast, state, fmodel = inner(model, optimizer, track_higher_grads=False)
    assert all(p.is_leaf for p in fast.values())
    assert {name for name, p in fast.items() if not p.requires_grad} == {"convolution.bias"}
    assert not any(tensor.requires_grad for tensor in state.values())
    loss_of(fmodel).backward()
    assert all(p.grad is None for p in optimizer.rule.parameters())
