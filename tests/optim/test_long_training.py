"""A hundred thousand steps: training stays where it has got to, and nothing piles up."""

import gc

import pytest
import torch

from ngopt.optim.optimizer import NeuralGraphOptimizer

STEPS = 100_000
WARM = 5_000
NOISE = 0.1
TRUTH = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def noisy_gradient(weight, generator):
    """Gradient of least squares on a batch of noisy samples; it is never zero for long."""
    x = torch.randn(16, 3, generator=generator)
    y = x @ TRUTH.T + NOISE * torch.randn(16, 2, generator=generator)
    return (x @ weight.detach().T - y).T @ x / 16


def kept(optimizer):
    """Numbers that must not grow: of tensors in memory, of plans, of characters saved."""
    gc.collect()
    tensors = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
    plans = len(optimizer.rule.__dict__.get("_cache", {}))
    return tensors, plans, len(optimizer.state_dict()["ngopt"]["names"])


@pytest.mark.slow
def test_a_hundred_thousand_steps_neither_drift_nor_pile_up():
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    optimizer = NeuralGraphOptimizer([weight])
    generator = torch.Generator().manual_seed(0)
    furthest, before = 0.0, None
    for step in range(STEPS):
        weight.grad = noisy_gradient(weight, generator)
        optimizer.step()
        if step == WARM:
            before = kept(optimizer)
        if step > WARM:
            furthest = max(furthest, (weight.detach() - TRUTH).abs().max().item())
    assert furthest < 0.1
    assert kept(optimizer) == before
    assert optimizer.skipped_steps == 0
    state = optimizer.state[weight]
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert state["step"] == STEPS
