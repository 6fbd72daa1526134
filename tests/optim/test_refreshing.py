import copy
from itertools import pairwise

import pytest
import torch

from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.optim.refreshing import FIRST, Refreshing, refreshes
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.contract import Small, assert_same, backward, batch, flat_state, train

EVERY = 4


@pytest.mark.parametrize("every", [1, 2, 7, 8, 30])
def test_both_agree_where_all_parameters_have_gradients(every):
    refreshing = Refreshing()
    for step in range(5000):
        assert refreshing.due("ab", every) == refreshes(step, every)


def test_looks_become_rarer_but_not_where_there_is_one_at_each_step():
    looks = [step for step in range(2000) if refreshes(step, 8)]
    gaps = [later - step for step, later in pairwise(looks)]
    assert gaps == sorted(gaps)
    assert set(gaps) == {1, 8, 16, 32, 64}
    assert all(refreshes(step, 1) for step in range(2000))


def after_the_first():
    refreshing = Refreshing()
    for _ in range(FIRST):
        assert refreshing.due("ab", EVERY)
    assert not refreshing.due("ab", EVERY)
    return refreshing


def test_a_new_parameter_is_seen_at_once():
    refreshing = after_the_first()
    looks = [refreshing.due("abc", EVERY) for _ in range(FIRST + EVERY)]
    assert looks == [True] * FIRST + [False] * 3 + [True]


def test_a_parameter_that_was_absent_at_the_last_look_is_seen_in_time():
    refreshing = after_the_first()
    looks = [refreshing.due("ab" if step % 2 else "a", EVERY) for step in range(40)]
    since = {"a": 0, "b": 0}
    for step, fresh in enumerate(looks):
        for name in "ab" if step % 2 else "a":
            since[name] = 0 if fresh else since[name] + 1
            assert since[name] < EVERY
    assert sum(looks) < 20


def test_what_is_forgotten_is_seen_again():
    refreshing = after_the_first()
    refreshing.forget()
    looks = [refreshing.due("ab", EVERY) for _ in range(FIRST + 1)]
    assert looks == [True] * FIRST + [False]


@pytest.fixture
def looks(monkeypatch):
    """Whether each step looked at the whole model."""
    found = []
    original = MatrixGNN.move_in_place

    def told(self, *arguments, fresh):
        found.append("stream" if fresh else "follow")
        return original(self, *arguments, fresh=fresh)

    monkeypatch.setattr(MatrixGNN, "move_in_place", told)
    for name in ("stream", "follow"):
        asked = getattr(MatrixGNN, name)

        # Which inner loops of higher take.
        def one_by_one(self, *arguments, name=name, original=asked):
            found.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(MatrixGNN, name, one_by_one)
    return found


def optimizer_of(model):
    return NeuralGraphOptimizer(model, rule=MatrixGNN(context_every=EVERY))


def test_the_optimizer_looks_now_and_then(looks):
    model = Small()
    train(model, optimizer_of(model), 20)
    expected = ["stream" if refreshes(step, EVERY) else "follow" for step in range(20)]
    assert looks == expected
    assert "follow" in expected


def test_it_looks_again_when_the_graph_has_changed(looks):
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=MatrixGNN(context_every=EVERY))
    train(model, optimizer, FIRST + 1)
    assert looks[-1] == "follow"
    optimizer.add_param_group({"params": [extra := torch.nn.Parameter(torch.ones(2))]})
    extra.grad = torch.ones(2)
    backward(model)
    optimizer.step()
    assert looks[-1] == "stream"


def test_inner_loops_of_higher_look_as_often(looks):
    higher = pytest.importorskip("higher")
    model = Small()
    optimizer = optimizer_of(model)
    train(model, optimizer, FIRST + 2)
    x, y = batch()
    with higher.innerloop_ctx(model, optimizer, track_higher_grads=False) as (fmodel, inner):
        for _ in range(5):
            inner.step((fmodel(x) - y).square().mean())
    assert looks == ["stream" if refreshes(step, EVERY) else "follow" for step in range(FIRST + 7)]


def test_a_look_is_not_lost_with_a_checkpoint():
    model = Small()
    optimizer = optimizer_of(model)
    train(model, optimizer, FIRST + 2)
    other = copy.deepcopy(model)
    resumed = optimizer_of(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 7)
    train(other, resumed, 7)
    assert_same(other.state_dict(), model.state_dict())
    assert_same(flat_state(resumed), flat_state(optimizer))


def test_a_rule_that_never_looks_again_makes_other_steps():
    models = [Small() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    rules = [MatrixGNN(context_every=every) for every in (1, EVERY)]
    for rule in rules:
        with torch.no_grad():
            for weight in rule.parameters():
                weight.add_(0.1)
    for model, rule in zip(models, rules, strict=True):
        train(model, NeuralGraphOptimizer(model, rule=rule), FIRST)
    first, second = (model.linear.weight.clone() for model in models)
    assert torch.equal(first, second)
    for model, rule in zip(models, rules, strict=True):
        train(model, NeuralGraphOptimizer(model, rule=rule), FIRST + 3)
    assert not torch.equal(models[0].linear.weight, models[1].linear.weight)
