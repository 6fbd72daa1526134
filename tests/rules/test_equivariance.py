"""Each rule commutes with permutations of hidden neurons."""

import pytest
import torch

from ngopt.graph.permute import permute, random_permutations
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import GRAPHS, MLP, randomize, relative_error, warm

PRECISION = {torch.float64: 1e-10, torch.float32: 1e-5}
RULES = {
    "adam": Adam,
    "matrix_gnn": MatrixGNN,
    "matrix_gnn deep": lambda: MatrixGNN(width=5, rounds=4, momentum_dtype="float32"),
    "matrix_gnn without context": lambda: MatrixGNN(graph_context=False),
}


def permute_state(described, state, permutations):
    keys = {key for tensors in state.values() for key in tensors} - {"step"}
    permuted = {
        key: permute(described, {n: t[key] for n, t in state.items()}, permutations) for key in keys
    }
    return {
        name: {"step": tensors["step"], **{key: permuted[key][name] for key in keys}}
        for name, tensors in state.items()
    }


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("make", RULES.values(), ids=RULES)
def test_equivariant(make, described, dtype):
    rule = randomize(make())
    parameters, gradients, state = warm(rule, described, dtype)
    permutations = random_permutations(described, 0)
    with torch.no_grad():
        update, after = rule(parameters, gradients, state, described)
        update_permuted, after_permuted = rule(
            permute(described, parameters, permutations),
            permute(described, gradients, permutations),
            permute_state(described, state, permutations),
            described,
        )
    expected = permute(described, update, permutations)
    assert relative_error(update_permuted, expected) < PRECISION[dtype]
    assert relative_error(expected, update) > 0.1
    expected_state = permute_state(described, after, permutations)
    for name, tensors in expected_state.items():
        assert all(torch.equal(after_permuted[name][key], tensors[key]) for key in tensors)


@pytest.mark.parametrize("left_out", ["parameters", "gradients", "state"])
def test_everything_it_sees_must_be_permuted(left_out):
    rule = randomize(MatrixGNN())
    parameters, gradients, state = warm(rule, MLP)
    permuted = {
        "parameters": permute(MLP, parameters, 0),
        "gradients": permute(MLP, gradients, 0),
        "state": permute_state(MLP, state, random_permutations(MLP, 0)),
    }
    permuted[left_out] = {"parameters": parameters, "gradients": gradients, "state": state}[
        left_out
    ]
    with torch.no_grad():
        update, _ = rule(parameters, gradients, state, MLP)
        other, _ = rule(*permuted.values(), MLP)
    assert relative_error(other, permute(MLP, update, 0)) > 1e-3
