import sys

import pytest
import torch
from torch import nn

from benchmarks import contestant
from benchmarks.contestant import Contestant
from ngopt import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(contestant, "AT_LEAST", 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
def test_a_large_transient_is_seen():
    class Greedy(torch.optim.SGD):
        def step(self):
            for group in self.param_groups:
                for weight in group["params"]:
                    torch.ones(100 * weight.numel()).add_(1)

    model = nn.Linear(1000, 100)
    greedy = Contestant(lambda m: [Greedy(m.parameters())], model, torch.ones(4, 1000))
    modest = Contestant(lambda m: [torch.optim.SGD(m.parameters())], model, torch.ones(4, 1000))
    assert greedy.transient() > 300 * 100_000
    assert modest.transient() < 30 * 100_000


def test_turns_take_all_kinds_of_steps_equally_often():
    model = nn.Linear(3, 2)
    rule = MatrixGNN(context_every=4)
    optimizer = NeuralGraphOptimizer(model, rule=rule)
    contender = Contestant(lambda m: [optimizer], model, torch.ones(4, 3))
    assert contender.cycle == contender.steps == 4
    before = optimizer.state[model.weight]["step"].item()
    turn = contender.turn()
    assert optimizer.state[model.weight]["step"] == before + 4
    assert min(turn) > 0
    # Two numbers of two bytes and one of four for each entry, and what is kept of bundles beside.
    assert contender.state() >= 8 * 8
