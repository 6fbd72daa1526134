import copy
from itertools import pairwise

import pytest
import torch

from ngopt.optim.context_refresh import ContextRefresh
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.refresh_schedule import FIRST, is_refresh_step
from tests.contract import Small, assert_same, backward, batch, flat_state, train

EVERY = 4


@pytest.mark.parametrize("every", [1, 2, 7, 8, 30])
def test_both_agree_where_all_parameters_have_gradients(every):
    refreshing = ContextRefresh()
    for step in range(5000):
        assert refreshing.begin_step("ab", every) == is_refresh_step(step, every)


def test_looks_become_rarer_but_not_where_there_is_one_at_each_step():
    looks = [step for step in range(2000) if is_refresh_step(step, 8)]
    gaps = [later - step for step, later in pairwise(looks)]
    assert gaps == sorted(gaps)
    assert set(gaps) == {1, 8, 16, 32, 64}
    assert all(is_refresh_step(step, 1) for step in range(2000))


def after_the_first():
    refreshing = ContextRefresh()
    for _ in range(FIRST):
        assert refreshing.begin_step("ab", EVERY)
    assert not refreshing.begin_step("ab", EVERY)
    return refreshing


def test_a_new_parameter_is_seen_at_once():
    refreshing = after_the_first()
    looks = [refreshing.begin_step("abc", EVERY) for _ in range(FIRST + EVERY)]
    assert looks == [True] * FIRST + [False] * 3 + [True]


def test_a_parameter_that_was_absent_at_the_last_look_is_seen_in_time():
    refreshing = after_the_first()
    looks = [refreshing.begin_step("ab" if step % 2 else "a", EVERY) for step in range(40)]
    since = {"a": 0, "b": 0}
    for step, refresh in enumerate(looks):
        for name in "ab" if step % 2 else "a":
            since[name] = 0 if refresh else since[name] + 1
            assert since[name] < EVERY
    assert sum(looks) < 20


def test_what_is_forgotten_is_seen_again():
    refreshing = after_the_first()
    refreshing.forget()
    looks = [refreshing.begin_step("ab", EVERY) for _ in range(FIRST + 1)]
    assert looks == [True] * FIRST + [False]


@pytest.fixture
def looks(monkeypatch):
    """Whether each step looked at the whole model."""
    found = []
    original = MatrixGNN.step_in_place

    def told(self, *arguments, refresh):
        found.append("updates" if refresh else "updates_from_cache")
        return original(self, *arguments, refresh=refresh)

    monkeypatch.setattr(MatrixGNN, "step_in_place", told)
    for name in ("updates", "updates_from_cache"):
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
    expected = [
        "updates" if is_refresh_step(step, EVERY) else "updates_from_cache" for step in range(20)
    ]
    assert looks == expected
    assert "updates_from_cache" in expected


def test_it_looks_again_when_the_graph_has_changed(looks):
    model = Small()
    optimizer = NeuralGraphOptimizer(model.parameters(), rule=MatrixGNN(context_every=EVERY))
    train(model, optimizer, FIRST + 1)
    assert looks[-1] == "updates_from_cache"
    optimizer.add_param_group({"params": [extra := torch.nn.Parameter(torch.ones(2))]})
    extra.grad = torch.ones(2)
    backward(model)
    optimizer.step()
    assert looks[-1] == "updates"


def test_inner_loops_of_higher_look_as_often(looks):
    higher = pytest.importorskip("higher")
    model = Small()
    optimizer = optimizer_of(model)
    train(model, optimizer, FIRST + 2)
    x, y = batch()
    with higher.innerloop_ctx(model, optimizer, track_higher_grads=False) as (fmodel, inner):
        for _ in range(5):
            inner.step((fmodel(x) - y).square().mean())
    assert looks == [
        "updates" if is_refresh_step(step, EVERY) else "updates_from_cache"
        for step in range(FIRST + 7)
    ]


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
