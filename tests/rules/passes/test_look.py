import pytest
import torch
from torch.utils._pytree import tree_leaves

from ngopt.rules import alike
from ngopt.rules.given import Given
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.passes.look import neuron_states, surveyed
from ngopt.rules.passes.stored_view import thin
from tests.rules.rule_inputs import draw, zoo_graph

WIDTH = 5


@pytest.fixture
def parts():
    rule, described = MatrixGNN(), zoo_graph("hf_gpt2")
    parameters = draw(described, 0)
    state = rule.init_state(parameters, described)
    given = Given(parameters, draw(described, 1), state, described)
    with torch.no_grad():
        return [part for name in parameters for part in rule._parts(name, given, keep=True)]


@torch.no_grad()
def test_what_is_surveyed_together_is_the_same_as_one_by_one(parts, monkeypatch):
    made, rule = [], MatrixGNN()

    def passes(arrays):
        made.append(arrays.weight.shape)
        return rule._passes(arrays, keep=True)

    together = surveyed(parts, passes)
    assert made
    made.clear()
    monkeypatch.setattr(alike, "SMALL", 0)
    one_by_one = surveyed(parts, passes)
    assert not made
    for pair in zip(together, one_by_one, strict=True):
        for ours, theirs in zip(*map(tree_leaves, pair), strict=True):
            torch.testing.assert_close(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize("statistics", [True, False])
def test_states_of_the_two_ends_of_each_bundle(parts, statistics):
    surveys = [survey for survey, _ in [part.passes.survey() for part in parts]]
    sources = torch.zeros(len(parts), WIDTH)
    heard = []

    def start(features):
        return features[:, :WIDTH]

    def talk(links, states):
        heard.append(len(links))
        return {neurons: state + 1 for neurons, state in states.items()}

    found = neuron_states(parts, surveys, sources, start, [talk, talk], statistics=statistics)
    assert heard == [len(parts)] * 2
    for part, states in zip(parts, found, strict=True):
        group, out, into, _ = part.bundle.shape
        if thin(part.bundle, WIDTH):
            assert states == ()
        else:
            assert [state.shape for state in states] == [(group, out, WIDTH), (group, into, WIDTH)]
            if not statistics:  # tanh(0) + 1 + 1, and the source where there are no neurons
                assert all(set(state.unique().tolist()) <= {0.0, 2.0} for state in states)
