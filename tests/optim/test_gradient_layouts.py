"""However gradients lie in memory, steps are those of contiguous ones, and they are left alone."""

import copy

import pytest
import torch
from torch import nn

from ngopt.backends.dispatch import without_loops
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN
from tests.rules.rule_inputs import randomize
from tests.rules.table import every_rule_with


def expanded(shape):
    return torch.randn(()).expand(shape)


def expanded_rows(shape):
    return torch.randn(shape[-1:]).expand(shape)


def transposed(shape):
    return torch.randn(shape[::-1]).permute(*range(len(shape) - 1, -1, -1))


def scattered(shape):
    return torch.randn(*shape, 2)[..., 1]


def overlapping(shape):
    return torch.randn(sum(shape)).as_strided(shape, [1] * len(shape))


LAYOUTS = [expanded, expanded_rows, transposed, scattered, overlapping]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def check(rule, layout, steps):
    """Two matrices have the very same gradient, and the biases have views of one."""
    here = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv1d(2, 3, 2))
    there = copy.deepcopy(here)
    models = here, there
    optimizers = [NeuralGraphOptimizer(list(m.parameters()), rule=rule) for m in models]
    for _ in range(steps):
        shared = {tensor.shape: layout(tensor.shape) for tensor in here.parameters()}
        given = [shared[tensor.shape] for tensor in here.parameters()]
        before = [gradient.clone() for gradient in given]
        for tensor, other, gradient in zip(*(m.parameters() for m in models), given, strict=True):
            tensor.grad = gradient
            other.grad = gradient.clone(memory_format=torch.contiguous_format)
        for optimizer in optimizers:
            optimizer.step()
        assert all(map(torch.equal, given, before))
        assert all(tensor.grad is g for tensor, g in zip(here.parameters(), given, strict=True))
    for tensor, other in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-5, atol=1e-6)


@every_rule_with("layout", {layout.__name__: layout for layout in LAYOUTS}, each=1)
def test_every_rule(make, layout):
    with without_loops():
        check(randomize(make()), layout, 3)


@every_layout
def test_replayed(layout):
    check("default", layout, 12)


@every_layout
def test_in_double_precision_and_with_small_squares(layout):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        check(MatrixGNN(square_dtype="bfloat16", context_every=2), layout, 4)
    finally:
        torch.set_default_dtype(before)


def test_gradients_as_autograd_gives_them_for_a_sum():
    model = nn.Linear(4, 4)
    optimizer = NeuralGraphOptimizer(model.parameters())
    before = [tensor.clone() for tensor in model.parameters()]
    found = torch.autograd.grad(model.weight.sum() + model.bias.sum(), model.parameters())
    assert any(0 in gradient.stride() for gradient in found)
    for tensor, gradient in zip(model.parameters(), found, strict=True):
        tensor.grad = gradient
    optimizer.step()
    for tensor, old in zip(model.parameters(), before, strict=True):
        assert (tensor < old).all()
