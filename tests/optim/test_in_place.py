import copy

import pytest
import torch

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.in_place import update_in_place
from ngopt.optim.update import Options, init_state, update
from ngopt.rules import Adam, Celo2, MatrixGNN, Rule
from ngopt.rules.rule import ParameterUpdate
from tests.rules.rule_inputs import MLP, draw, randomize


def arguments(rule, seed=0, dtype=torch.float32):
    """Parameters with a state that is two steps old, gradients, and options."""
    params, grads = draw(MLP, seed, dtype), draw(MLP, seed + 1, dtype)
    state = init_state(params, MLP, rule)
    options = dict.fromkeys(params, Options(lr=1e-2, weight_decay=0.1))
    with torch.no_grad():
        for step in range(2):
            given = draw(MLP, seed + step + 2, dtype)
            params, state, _ = update(params, given, state, MLP, rule, options)
    return params, grads, state, options


RULES = pytest.mark.parametrize(
    # The default rule moves all parameters at once, which is rounded in another order.
    ("rule", "error"),
    [(Adam(), 0.0), (MatrixGNN(), 1e-6), (Celo2(), 0.0)],
    ids=["Adam", "MatrixGNN", "Celo2"],
)


@RULES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equals_update(rule, error, dtype):
    rule = randomize(rule)
    params, grads, state, options = arguments(rule, dtype=dtype)
    with torch.no_grad():
        expected = update(params, grads, state, MLP, rule, options)
        due = copy.deepcopy(params)
        kept = {due[name]: tensors for name, tensors in state.items()}
        finite = update_in_place(due, kept, due, grads, dict(state), MLP, rule, options)
    assert finite
    error = 2**-7 if error and dtype == torch.bfloat16 else error
    torch.testing.assert_close(due, expected.params, rtol=error, atol=error)
    found = {name: kept[tensor] for name, tensor in due.items()}
    torch.testing.assert_close(found, expected.state, rtol=error, atol=error)


@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2)], ids=["number", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_keep_their_memory(lr, dtype):
    rule = MatrixGNN()
    params, grads, state, options = arguments(rule, dtype=dtype)
    options = dict.fromkeys(options, Options(lr))
    due = copy.deepcopy(params)
    before = {name: (tensor.data_ptr(), tensor._version) for name, tensor in due.items()}
    kept = {due[name]: tensors for name, tensors in state.items()}
    with torch.no_grad():
        update_in_place(due, kept, due, grads, state, MLP, rule, options)
    # What was saved for a backward pass is found to have changed.
    assert before == {
        name: (tensor.data_ptr(), tensor._version - 1) for name, tensor in due.items()
    }
    assert all((due[name] != params[name]).any() for name in due)


def test_nothing_changes_if_a_gradient_is_not_finite():
    rule = MatrixGNN()
    params, grads, state, options = arguments(rule)
    grads["2.bias"][1] = torch.inf
    due = copy.deepcopy(params)
    kept = {due[name]: tensors for name, tensors in state.items()}
    with torch.no_grad():
        assert not update_in_place(due, kept, due, grads, dict(state), MLP, rule, options)
    torch.testing.assert_close(due, params, rtol=0, atol=0)
    assert all(kept[due[name]] is tensors for name, tensors in state.items())


class Miser(Rule):
    """Remembers its gradient, and checks what is left of the states of those it is done with."""

    config = {}  # noqa: RUF012

    def init_state(self, parameters, graph):
        return {name: {"last": torch.zeros_like(p)} for name, p in parameters.items()}

    def updates(self, parameters, gradients, state, graph):
        done = set()
        for name, gradient in gradients.items():
            assert not done & state.keys()
            yield ParameterUpdate(name, gradient.clone(), {"last": gradient})
            done.add(name)


def test_states_are_given_away_one_by_one_and_own_their_memory():
    graph = NeuralGraph.per_tensor({"a": (3,), "b": (2, 2)})
    params = {"a": torch.ones(3), "b": torch.ones(2, 2)}
    grads = {name: torch.full_like(p, 2.0) for name, p in params.items()}
    state = init_state(params, graph, Miser())
    kept, options = {}, dict.fromkeys(params, Options(lr=1.0))
    update_in_place(params, kept, params, grads, state, graph, Miser(), options)
    assert state == {}
    for name, param in params.items():
        assert (param == -1).all()
        grads[name].zero_()
        assert (kept[param]["last"] == 2).all()
