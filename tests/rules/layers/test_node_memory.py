import torch

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.layers.node_memory import KEY
from ngopt.rules.ng_gnn import NGGNN
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, warm

ATTENTION = GRAPHS["attention_block"]
WIDTH = 4


def recurrent():
    return randomize(NGGNN(WIDTH, 1, recurrent=True))


def step(rule, inputs, described=MLP):
    with torch.no_grad():
        return rule(*inputs, described)


def without_memory(state):
    """The same state, with the memory as it was before the first step."""
    return {name: {**t, KEY: torch.zeros_like(t[KEY])} for name, t in state.items()}


def test_each_parameter_keeps_a_memory_of_the_neurons_its_edges_enter():
    parameters = draw(MLP, 0)
    state = recurrent().init_state(parameters, MLP)
    assert {name: tuple(tensors[KEY].shape) for name, tensors in state.items()} == {
        name: (parameter.shape[0], WIDTH) for name, parameter in parameters.items()
    }
    assert not any(tensors[KEY].any() for tensors in state.values())


def test_bundles_that_enter_the_same_neurons_remember_the_same():
    state = step(recurrent(), warm(recurrent(), MLP))[1]
    for number in (0, 2, 4):
        weight, bias = (state[f"{number}.{name}"][KEY] for name in ("weight", "bias"))
        assert torch.equal(weight, bias)
        assert (weight - weight[0]).abs().max() > 1e-3


def test_a_step_depends_on_what_is_remembered():
    rule = recurrent()
    parameters, gradients, state = warm(rule, MLP)
    update, _ = step(rule, (parameters, gradients, state))
    other, _ = step(rule, (parameters, gradients, without_memory(state)))
    assert all((update[name] - other[name]).abs().max() > 1e-4 for name in update)


def test_neurons_remember_the_mean_of_what_is_stored():
    rule = recurrent()
    parameters, gradients, state = warm(rule, MLP)
    moved = {name: dict(tensors) for name, tensors in state.items()}
    moved["2.weight"][KEY] = state["2.weight"][KEY] + 0.25
    moved["2.bias"][KEY] = state["2.bias"][KEY] - 0.25
    update, _ = step(rule, (parameters, gradients, state))
    other, _ = step(rule, (parameters, gradients, moved))
    torch.testing.assert_close(other, update, rtol=1e-12, atol=1e-12)


def test_the_memory_of_another_graph_is_begun_anew():
    rule, parameters = recurrent(), draw(ATTENTION, 0)
    alone = NeuralGraph.per_tensor({name: p.shape for name, p in parameters.items()})
    state = rule.init_state(parameters, alone)
    with torch.no_grad():
        _, state = rule(parameters, draw(ATTENTION, 1), state, alone)
        fits = [
            tensors[KEY].shape == rule.init_state(parameters, ATTENTION)[name][KEY].shape
            for name, tensors in state.items()
        ]
        assert not all(fits)
        found = rule(parameters, draw(ATTENTION, 2), state, ATTENTION)
        emptied = {
            name: tensors if fit else {**tensors, KEY: torch.zeros(0, WIDTH)}
            for fit, (name, tensors) in zip(fits, state.items(), strict=True)
        }
        expected = rule(parameters, draw(ATTENTION, 2), emptied, ATTENTION)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert all(tensors[KEY].any() for tensors in found[1].values())
