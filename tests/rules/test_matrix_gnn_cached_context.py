"""Steps of the default rule between two looks at the whole model."""

import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.buckets.packing import LARGE
from ngopt.rules.matrix_gnn import CONTEXT, MatrixGNN
from tests.rules.rule_inputs import MLP, draw, randomize, relative_error, zoo_graph


def told(method, parameters, gradients, state, described):
    changes = list(method(parameters, gradients, state, described))
    updates = {change.name: change.update for change in changes}
    return updates, {change.name: change.state for change in changes}


def inputs(rule, described):
    parameters = draw(described, 0)
    return parameters, draw(described, 1), rule.init_state(parameters, described)


@pytest.mark.parametrize("graph_context", [True, False])
@pytest.mark.parametrize("name", ["conv_flatten", "multihead_attention", "lstm"])
def test_with_a_view_of_now_it_does_the_same(name, graph_context):
    described = zoo_graph(name)
    rule = randomize(MatrixGNN(context_every=2, graph_context=graph_context))
    parameters, gradients, state = inputs(rule, described)
    expected, after = told(rule.updates, parameters, gradients, state, described)
    for tensor, tensors in state.items():
        tensors[CONTEXT] = after[tensor][CONTEXT]
    found, followed = told(rule.updates_from_cache, parameters, gradients, state, described)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(followed, after)


def test_between_looks_nothing_of_the_model_changes_but_entries_do():
    rule = randomize(MatrixGNN(context_every=2))
    parameters, gradients, state = inputs(rule, MLP)
    _, state = told(rule.updates, parameters, gradients, state, MLP)
    other = {name: 3 * g + 1 for name, g in gradients.items()}
    fresh, seen = told(rule.updates, parameters, other, state, MLP)
    followed, kept = told(rule.updates_from_cache, parameters, other, state, MLP)
    for name in gradients:
        torch.testing.assert_close(kept[name][CONTEXT], state[name][CONTEXT], rtol=0, atol=0)
        assert not torch.equal(seen[name][CONTEXT], state[name][CONTEXT])
        torch.testing.assert_close(kept[name]["fast"], seen[name]["fast"], rtol=0, atol=0)
    assert relative_error(followed, fresh) > 1e-3


def test_without_a_view_of_this_graph_it_looks():
    rule = randomize(MatrixGNN(context_every=2))
    parameters, gradients, state = inputs(rule, MLP)
    expected, after = told(rule.updates, parameters, gradients, state, MLP)
    name = next(iter(state))
    state[name][CONTEXT] = state[name][CONTEXT][1:]
    found, followed = told(rule.updates_from_cache, parameters, gradients, state, MLP)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(followed, after, rtol=0, atol=0)


def test_before_the_first_look_nothing_moves():
    rule = randomize(MatrixGNN(context_every=2))
    found, _ = told(rule.updates_from_cache, *inputs(rule, MLP), MLP)
    assert all((update == 0).all() for update in found.values())


def test_a_rule_that_always_looks_stores_nothing():
    rule = randomize(MatrixGNN())
    parameters, gradients, state = inputs(rule, MLP)
    assert all(CONTEXT not in tensors for tensors in state.values())
    expected, after = told(rule.updates, parameters, gradients, state, MLP)
    found, followed = told(rule.updates_from_cache, parameters, gradients, state, MLP)
    torch.testing.assert_close((found, followed), (expected, after), rtol=0, atol=0)


def test_it_cannot_look_every_0_steps():
    with pytest.raises(RuleError, match="Use context_every=1"):
        MatrixGNN(context_every=0)


@pytest.mark.parametrize("shape", [(LARGE,), (LARGE, 3)], ids=str)
def test_neurons_of_large_vectors_have_no_states(shape):
    described = NeuralGraph.per_tensor({"w": shape})
    rule = randomize(MatrixGNN(context_every=2))
    parameters, gradients = draw(described, 0, torch.float32), draw(described, 1, torch.float32)
    state = rule.init_state(parameters, described)
    expected, after = told(rule.updates, parameters, gradients, state, described)
    assert after["w"][CONTEXT].numel() == state["w"][CONTEXT].numel() < LARGE + 100
    state["w"][CONTEXT] = after["w"][CONTEXT]
    found, _ = told(rule.updates_from_cache, parameters, gradients, state, described)
    torch.testing.assert_close(found, expected)
    blind = randomize(MatrixGNN(context_every=2, graph_context=False))
    alone, _ = told(blind.updates, parameters, gradients, state, described)
    torch.testing.assert_close(found, alone)
