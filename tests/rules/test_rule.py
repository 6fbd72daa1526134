import copy
import inspect

import pytest
import torch

from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.rule import Rule
from tests.rules.rule_inputs import MLP, draw, randomize, warm

RULES = {
    "adam": lambda: Adam(betas=(0.8, 0.95), eps=1e-6),
    "matrix_gnn": MatrixGNN,
    "matrix_gnn with options": lambda: MatrixGNN(
        width=5, rounds=1, hidden=3, momentum_dtype="float32", graph_context=False, seed=3
    ),
}
every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)


def step(rule, parameters, gradients, state):
    with torch.no_grad():
        return rule(parameters, gradients, state, MLP)


def assert_equal(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_rule_is_what_says_how_it_is_built_begins_and_steps():
    assert inspect.isabstract(Rule)
    assert Rule.__abstractmethods__ == {"config", "init_state", "forward"}
    with pytest.raises(TypeError, match="abstract"):
        Rule()

    class Partial(Rule):
        @property
        def config(self):
            return {}

        def forward(self, parameters, gradients, state, graph):
            return {}, {}

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
    again = type(rule)(**copy.deepcopy(rule.config))
    assert_equal(dict(again.state_dict()), dict(rule.state_dict()))


@every_rule
def test_no_input_is_changed(make):
    rule = randomize(make())
    inputs = warm(rule, MLP)
    theta = copy.deepcopy(dict(rule.state_dict()))
    before, random = copy.deepcopy(inputs), torch.get_rng_state()
    step(rule, *inputs)
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
        assert set(after[name]) == set(state[name])


@every_rule
def test_the_state_of_a_parameter_depends_on_nothing_but_itself(make):
    rule, parameters = randomize(make()), draw(MLP, 0)
    together = rule.init_state(parameters, MLP)
    alone = {}
    for name, parameter in parameters.items():
        alone |= rule.init_state({name: parameter}, MLP)
    assert_equal(alone, together)
