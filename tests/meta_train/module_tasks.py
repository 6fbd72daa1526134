"""What the tests of the back end of modules share: tasks and rules."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from meta_train.data.dataset import Dataset
from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.model_task import ModelTask
from ngopt.rules import LSTM, NGGNN, SmallFC
from tests.meta_train.small_tasks import Descent, Quadratic

higher = pytest.importorskip("higher")


MEASURES = ("next", "same", "held_out")
RULES = {
    "small_fc": lambda: SmallFC(hidden=(4,), step_mult=1.0),
    "lstm": lambda: LSTM(hidden=4),
    "ng_gnn with memory": lambda: NGGNN(4, 1, aggregators=["mean"], recurrent=True),
}


class Momentum(Descent):
    """Momentum descent, bent."""

    def __init__(self):
        super().__init__(rate=1.3, momentum=0.4)

    def advance(self, parameter, gradient, state, layout):
        update, new = super().advance(parameter, gradient, state, layout)
        return torch.tanh(update), new


def task(build, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)

    def split():
        x = torch.randn(40, 3, generator=generator, dtype=dtype)
        return x, torch.randint(2, (40,), generator=generator)

    data = Dataset("random", {name: split() for name in ("train", "held_out", "test")}, 2)
    return ModelTask(lambda: build().to(dtype), data, cross_entropy, 8)


def plain():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def normalized():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def dropping():
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 2))


class Gated(nn.Module):
    """Takes another way where an input is large, and counts how often."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
        self.register_buffer("taken", torch.zeros(()))

    def forward(self, x):
        if x.sum() > 0:
            self.taken = self.taken + 1
            return self.first(x)
        return self.second(x)


TASKS = {
    "model": lambda: task(plain),
    "wrapped": lambda: Rescaled(Rescaled(task(plain), "tensor", 3.0), "entry", 3.0),
    "pure loss": lambda: Quadratic(spread=1.0, noise=0.3),
}


def jiggled(rule):
    """The rule away from where it starts, at which much of theta does not count."""
    generator = torch.Generator().manual_seed(0)
    rule = rule.double()
    with torch.no_grad():
        for weight in rule.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return rule


def seeded():
    return torch.Generator().manual_seed(1)


def truncations(unroll, given, count=2, steps=3, runs=2):
    """Runs, losses and meta-gradient of each of several truncations in a row."""
    theta = dict(unroll.rule.named_parameters())
    stack = unroll.begin(given, runs, seeded())
    results = []
    for _ in range(count):
        after, losses = unroll.advance(stack, steps)
        gradient = torch.autograd.grad(
            losses.mean(), list(theta.values()), materialize_grads=True, allow_unused=True
        )
        stack = after.detached()
        results.append((stack, losses.detach(), dict(zip(theta, gradient, strict=True))))
    return results


def close(a, b, rtol=1e-10):
    torch.testing.assert_close(a, b, rtol=rtol, atol=1e-13)


every_order = pytest.mark.parametrize("second_order", [False, True], ids=["first", "second"])
