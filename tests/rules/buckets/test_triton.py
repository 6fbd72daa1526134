"""The kernels of GPUs, interpreted on the CPU, do what operations of torch do."""

from contextlib import nullcontext

import pytest
import torch

from ngopt.backends.backend import backend_for
from ngopt.backends.dispatch import eager, interpreted, without_loops
from ngopt.backends.triton.kernel import Kernel
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.backends.triton import interpreter
from tests.contract import Small, backward
from tests.rules.buckets.test_compiled_loops import trajectory, used
from tests.rules.rule_inputs import randomize, relative_error, zoo_graph

GRAPHS = ["conv_flatten", "lstm", "grouped", "tied_autoencoder"]


def made(rule, name, where):
    with where():
        return trajectory(rule, zoo_graph(name), 3)


DIRECTIONS = {
    "orthogonalized": {},
    "whitened": {"whitening_limit": 64},
    "both": {"whitening_limit": 64, "whitened_orthogonal": 2},
}
every_direction = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


def rule_with(direction):
    options = {"context_every": 2, "momentum_dtype": "float32", "base_update": direction}
    return randomize(MatrixGNN(**options))


@interpreter.interpreted
@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("conv_flatten", "whitened"),
        ("lstm", "both"),
        ("grouped", "orthogonalized"),
        ("tied_autoencoder", "orthogonalized"),
    ],
)
def test_trajectories(name, direction):
    rule = rule_with(DIRECTIONS[direction])
    found, state = made(rule, name, interpreted)
    expected, wanted = made(rule, name, eager)
    assert relative_error(found, expected) < 1e-5
    for parameter, tensors in wanted.items():
        assert relative_error(state[parameter], tensors) < 1e-4


@interpreter.interpreted
def test_they_are_used_where_the_order_of_sums_does_not_matter():
    tensors = [torch.ones(2)]
    with interpreted(), torch.no_grad():
        backend = backend_for(tensors)
        assert backend is not None
        assert backend.make is Kernel
        torch.use_deterministic_algorithms(True)
        try:
            assert backend_for(tensors) is None
        finally:
            torch.use_deterministic_algorithms(False)


@interpreter.interpreted
def test_gradients_that_are_not_finite_change_nothing():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    with interpreted():
        backward(model)
        optimizer.step()
        before = [parameter.clone() for parameter in model.parameters()]
        backward(model)
        next(model.parameters()).grad.fill_(torch.nan)
        optimizer.step()
    assert optimizer.skipped_steps == 1
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.gpu
@every_direction
@pytest.mark.parametrize("name", GRAPHS)
def test_trajectories_on_a_gpu(name, direction):
    pytest.importorskip("triton")
    described, found = zoo_graph(name), {}
    for kind, where in {"kernels": nullcontext, "operations": without_loops}.items():
        rule = rule_with(direction).cuda()
        with where():
            found[kind] = trajectory(rule, described, 3)[0]
        assert bool(used(rule)) == (kind == "kernels")
    assert relative_error(found["kernels"], found["operations"]) < 1e-5
