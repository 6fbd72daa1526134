"""What of a state counts, and what does not."""

import pytest
import torch

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.matrix_gnn import CONTEXT, MatrixGNN
from tests.rules.rule_inputs import draw, randomize


def steps(rule, described, count=4):
    parameters = draw(described, 0, torch.float32)
    state = rule.init_state(parameters, described)
    with torch.no_grad():
        for number in range(count):
            gradients = draw(described, number + 1, torch.float32)
            refresh = number % rule.refresh_every == 0
            updates, state = rule(parameters, gradients, state, described, refresh=refresh)
            parameters = {name: p - 0.01 * updates[name] for name, p in parameters.items()}
    return parameters, state


LONE = NeuralGraph.per_tensor({f"p{n}": shape for n, shape in enumerate([(3,), (2, 3)] * 3)})


@pytest.mark.parametrize("refresh", [True, False])
def test_states_put_together_in_another_order_are_the_same(refresh):
    rule = randomize(MatrixGNN(context_every=2))
    parameters, state = steps(rule, LONE, 1)
    turned = {
        name: dict(reversed(tensors.items())) if name == "p2" else tensors
        for name, tensors in state.items()
    }
    gradients = draw(LONE, 9, torch.float32)
    with torch.no_grad():
        expected, found = (
            rule(parameters, gradients, given, LONE, refresh=refresh) for given in (state, turned)
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_was_seen_of_another_graph_is_no_matter():
    rule = randomize(MatrixGNN(context_every=2))
    parameters, state = steps(rule, LONE, 1)
    gradients = draw(LONE, 9, torch.float32)
    other = {name: dict(tensors) for name, tensors in state.items()}
    other["p2"][CONTEXT] = torch.zeros(1)
    with torch.no_grad():
        expected, found = (rule(parameters, gradients, given, LONE) for given in (state, other))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
