"""The kernels of GPUs, interpreted on the CPU, do what operations of torch do."""

import pytest
import torch

from ngopt.backends.backend import backend_for
from ngopt.backends.switch import eager, interpreted
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.backends.triton.interpreter import Kernel
from tests.contract import Small, backward
from tests.rules.buckets.test_loops import trajectory
from tests.rules.rule_inputs import randomize, relative_error, zoo_graph

GRAPHS = ["conv_flatten", "lstm", "grouped", "tied_autoencoder"]


def made(rule, name, where):
    with where():
        return trajectory(rule, zoo_graph(name), 3)


@pytest.mark.parametrize("name", GRAPHS)
def test_trajectories(name):
    rule = randomize(MatrixGNN(context_every=2, momentum_dtype="float32"))
    found, state = made(rule, name, interpreted)
    expected, wanted = made(rule, name, eager)
    assert relative_error(found, expected) < 1e-5
    for parameter, tensors in wanted.items():
        assert relative_error(state[parameter], tensors) < 1e-4


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


def test_gradients_that_are_not_finite_change_nothing():
    model = Small()
    optimizer = NeuralGraphOptimizer(model)
    with interpreted():
        for _ in range(2):
            backward(model)
            optimizer.step()
        before = [parameter.clone() for parameter in model.parameters()]
        backward(model)
        next(model.parameters()).grad.fill_(torch.nan)
        optimizer.step()
    assert optimizer.skipped_steps == 1
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
