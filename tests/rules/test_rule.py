import copy
import inspect
import json

import pytest
import torch

from ngopt.rules.rule import Rule
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, trajectory, warm
from tests.rules.table import every_rule, every_rule_with


def step(rule, parameters, gradients, state, described=MLP):
    with torch.no_grad():
        return rule(parameters, gradients, state, described)


def assert_equal(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_rule_is_what_says_how_it_is_built_begins_and_steps():
    assert inspect.isabstract(Rule)
    assert Rule.__abstractmethods__ == {"config", "init_state", "updates"}
    with pytest.raises(TypeError, match="abstract"):
        Rule()

    class Partial(Rule):
        @property
        def config(self):
            return {}

        def updates(self, parameters, gradients, state, graph):
            yield from ()

    with pytest.raises(TypeError, match="init_state"):
        Partial()


@every_rule
def test_config_and_theta_build_the_rule_again(make):
    rule = randomize(make())
    again = type(rule)(**rule.config)
    again.load_state_dict(rule.state_dict())
    assert again.config == rule.config
    assert_equal(step(again, *warm(rule, MLP)), step(rule, *warm(rule, MLP)))


@every_rule
def test_a_fresh_rule_is_given_by_its_config(make):
    rule = make()
    for config in (copy.deepcopy(rule.config), json.loads(json.dumps(rule.config))):
        again = type(rule)(**config)
        assert_equal(dict(again.state_dict()), dict(rule.state_dict()))
        assert again.config == rule.config


@every_rule
def test_building_a_rule_leaves_the_global_random_state_alone(make):
    before = torch.get_rng_state()
    first = make()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert_equal(dict(first.state_dict()), dict(make().state_dict()))


@every_rule
def test_another_seed_draws_another_theta(make):
    rule = make()
    if "seed" not in rule.config:
        assert not rule.state_dict()
        return
    other = type(rule)(**{**rule.config, "seed": rule.config["seed"] + 1})
    assert any(not torch.equal(t, other.state_dict()[n]) for n, t in rule.state_dict().items())


@every_rule_with("described", GRAPHS, each=1)
def test_no_input_is_changed(make, described):
    rule = randomize(make())
    inputs = warm(rule, described)
    theta = copy.deepcopy(dict(rule.state_dict()))
    before, random = copy.deepcopy(inputs), torch.get_rng_state()
    step(rule, *inputs, described)
    assert_equal(inputs, before)
    assert_equal(dict(rule.state_dict()), theta)
    assert torch.equal(torch.get_rng_state(), random)


@every_rule
def test_it_can_be_replayed(make):
    rule = randomize(make())
    inputs = warm(rule, MLP)
    assert_equal(step(rule, *inputs), step(rule, *inputs))


@every_rule
def test_updates_and_states_are_of_what_has_a_gradient(make):
    rule = randomize(make())
    parameters, gradients, state = warm(rule, MLP)
    some = {name: gradients[name] for name in ("0.weight", "2.bias")}
    update, after = step(rule, parameters, some, {name: state[name] for name in some})
    assert set(update) == set(after) == set(some)
    for name in some:
        assert (update[name].shape, update[name].dtype) == (some[name].shape, some[name].dtype)
        assert update[name].any()
        assert set(after[name]) == set(state[name])


@every_rule
def test_without_gradients_nothing_is_said(make):
    rule = randomize(make())
    assert step(rule, draw(MLP, 0), {}, {}) == ({}, {})


@every_rule
def test_every_update_hears_of_its_gradient(make):
    rule = randomize(make())
    parameters, gradients, state = warm(rule, MLP)
    update, _ = step(rule, parameters, gradients, state)
    other, _ = step(rule, parameters, draw(MLP, 9), state)
    assert not any(torch.equal(other[name], update[name]) for name in update)


@every_rule
def test_the_state_of_a_parameter_depends_on_nothing_but_itself(make):
    rule, parameters = randomize(make()), draw(MLP, 0)
    together = rule.init_state(parameters, MLP)
    alone = {}
    for name, parameter in parameters.items():
        alone |= rule.init_state({name: parameter}, MLP)
    assert_equal(alone, together)


@every_rule_with("described", GRAPHS, each=1)
def test_tensors_of_the_state_keep_shape_and_dtype(make, described):
    rule = randomize(make())
    for dtype in (torch.float32, torch.float64):
        parameters = draw(described, 0, dtype)
        first = rule.init_state(parameters, described)
        _, last = trajectory(rule, described, parameters, [draw(described, 1, dtype)] * 2)
        kinds = [
            {n: {k: (t.shape, t.dtype) for k, t in s.items()} for n, s in state.items()}
            for state in (first, last)
        ]
        assert kinds[0] == kinds[1]
        assert not any(t.requires_grad for tensors in last.values() for t in tensors.values())


@every_rule_with("described", GRAPHS, each=1)
def test_what_was_told_of_can_be_overwritten(make, described):
    rule = randomize(make())
    parameters, gradients, state = warm(rule, described)
    expected, expected_state = step(rule, parameters, gradients, state, described)
    with torch.no_grad():
        for name, update, after in rule.updates(parameters, gradients, state, described):
            torch.testing.assert_close(update, expected.pop(name), rtol=1e-12, atol=0)
            torch.testing.assert_close(after, expected_state.pop(name), rtol=1e-12, atol=0)
            for tensor in (parameters[name], gradients[name], *state[name].values()):
                tensor.fill_(float("nan"))
    assert not expected
