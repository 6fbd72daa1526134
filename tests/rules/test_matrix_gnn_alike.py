"""Parameters alike are stepped together, and nobody can tell but by the time it takes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ngopt.backends.switch import plain
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules import alike
from ngopt.rules.matrix_gnn import CONTEXT, MatrixGNN
from tests.rules.rule_inputs import SOME, draw, randomize, relative_error, zoo_graph


def steps(rule, described, count=4):
    parameters = draw(described, 0, torch.float32)
    state = rule.init_state(parameters, described)
    with torch.no_grad():
        for number in range(count):
            gradients = draw(described, number + 1, torch.float32)
            fresh = number % rule.refresh_every == 0
            updates, state = rule(parameters, gradients, state, described, fresh=fresh)
            parameters = {name: p - 0.01 * updates[name] for name, p in parameters.items()}
    return parameters, state


def one_by_one(monkeypatch, *arguments):
    with monkeypatch.context() as patched:
        patched.setattr(alike, "SMALL", 0)
        return steps(*arguments)


LONE = NeuralGraph.per_tensor({f"p{n}": shape for n, shape in enumerate([(3,), (2, 3)] * 3)})


@pytest.mark.parametrize("options", [{}, {"context_every": 2}, {"graph_context": False}], ids=str)
@pytest.mark.parametrize("described", [LONE, *SOME], ids=lambda d: d if d in SOME else "lone")
def test_as_one_by_one(described, options, monkeypatch):
    described = zoo_graph(described) if described in SOME else described
    rule = randomize(MatrixGNN(square_dtype="bfloat16", **options))
    found, expected = steps(rule, described), one_by_one(monkeypatch, rule, described)
    assert relative_error(found[0], expected[0]) < 1e-5
    for name, tensors in expected[1].items():
        assert found[1][name].keys() == tensors.keys()
        assert all(found[1][name][key].dtype == t.dtype for key, t in tensors.items())


@pytest.mark.parametrize("fresh", [True, False])
def test_states_put_together_in_another_order_are_the_same(fresh):
    rule = randomize(MatrixGNN(context_every=2))
    parameters, state = steps(rule, LONE, 1)
    turned = {
        name: dict(reversed(tensors.items())) if name == "p2" else tensors
        for name, tensors in state.items()
    }
    gradients = draw(LONE, 9, torch.float32)
    with torch.no_grad():
        expected, found = (
            rule(parameters, gradients, given, LONE, fresh=fresh) for given in (state, turned)
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


class _Count(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func.namespace == "aten" and "clone" not in func.name()
        return func(*args, **(kwargs or {}))


def operations(count, fresh):
    described = NeuralGraph.per_tensor({f"p{n}": (3,) for n in range(count)})
    rule = randomize(MatrixGNN(context_every=2))
    parameters = draw(described, 0, torch.float32)
    state = rule.init_state(parameters, described)
    with torch.no_grad(), plain(), _Count() as counted:
        rule(parameters, parameters, state, described, fresh=fresh)
    return counted.number


@pytest.mark.parametrize("fresh", [True, False])
def test_many_tensors_alike_take_as_many_operations_as_few(fresh):
    few, many = (operations(count, fresh) for count in (4, 40))
    assert few > 50
    assert many - few <= 36 * 2
