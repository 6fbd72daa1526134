"""Permuting hidden neurons commutes with training, on every model of the zoo."""

import copy
from contextlib import nullcontext

import pytest
import torch

from ngopt.backends.dispatch import without_loops
from ngopt.graph.nested_tensors import nested_tensors
from ngopt.graph.permute import permute, random_permutations
from ngopt.graph.trace import trace
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import randomize
from tests.zoo import ZOO

STEPS = 2


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def gradients(model, args, kwargs):
    outputs = [out for out in nested_tensors(model(*args, **kwargs)) if out.requires_grad]
    model.zero_grad()
    sum(out.sin().square().sum() for out in outputs).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


RULE = randomize(MatrixGNN())
"""One for all, so that steps on a graph are recorded once."""


def trained(model, graph, every_gradient):
    """The weights after one step per dict of gradients.

    Gradients are given, not computed anew: some vanish in theory (of a bias before a norm), and
    Adam's direction of rounding errors depends on the order of sums.
    """
    optimizer = NeuralGraphOptimizer(model, rule=RULE, graph=graph)
    for grads in every_gradient:
        for name, parameter in model.named_parameters():
            parameter.grad = grads.get(name)
        optimizer.step()
    assert optimizer.skipped_steps == 0
    return weights(model)


def without_recording(dtype):
    """Steps in double precision are not recorded, which would take most of the time here."""
    return without_loops() if dtype == torch.float64 else nullcontext()


IN_SINGLE_PRECISION = ("mlp", "resnet", "grouped", "lstm", "vit", "hf_gpt2")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float64) for name in ZOO] + [(n, torch.float32) for n in IN_SINGLE_PRECISION],
)
def test_step_commutes_with_permutations(name, dtype):
    model, args, kwargs = ZOO[name].build_random()
    graph = trace(model, *args, **kwargs)
    permutations = random_permutations(graph, 1)
    grads = gradients(model, args, kwargs)
    model.to(dtype)
    every = [{n: (g * c).to(dtype) for n, g in grads.items()} for c in torch.randn(STEPS)]
    start = weights(model)
    other = copy.deepcopy(model)
    other.load_state_dict(permute(graph, model.state_dict(), permutations))
    with without_recording(dtype):
        found = trained(other, graph, [permute(graph, grads, permutations) for grads in every])
        expected = trained(model, graph, every)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for parameter, permuted in permute(graph, expected, permutations).items():
        error = (found[parameter] - permuted).abs().max()
        scale = (expected[parameter] - start[parameter]).abs().max() + permuted.abs().max()
        assert error <= tolerance * scale, parameter
