"""Small problems that suites of other packages hold their optimizers to.

The two functions are optax's (`contrib/_common_test.py`: to within 3 % of the minimum), the two
classes in the way of pytorch_optimizer's (the loss falls to two thirds within some steps). Each
optimizer has one learning rate for all of them: ours its own, Adam ten times its default.
"""

import pytest
import torch
from torch import nn

from tests.contract import PLAIN

LRS = {"Adam": 1e-2, "AdamW": 1e-2, "ours-Adam": 1e-2, "ours": None}
CASES = [case for case in PLAIN if case.name in LRS]
every_optimizer = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])

PARABOLA = torch.tensor([1.0, -1.0, 1.0])


def parabola(x):
    return (x - PARABOLA).square().sum()


def rosenbrock(x):
    return (1 - x[0]).square() + 100 * (x[1] - x[0].square()).square()


@every_optimizer
@pytest.mark.parametrize(
    ("function", "minimum", "steps"),
    [(parabola, PARABOLA, 500), (rosenbrock, torch.ones(2), 1000)],
)
def test_comes_to_the_minimum_and_stays_there(case, function, minimum, steps):
    x = nn.Parameter(torch.zeros(len(minimum)))
    optimizer = case.make([x], lr=LRS[case.name])
    furthest = 0.0
    for step in range(steps):
        optimizer.zero_grad()
        function(x).backward()
        optimizer.step()
        if step >= steps - 100:
            furthest = max(furthest, (x.detach() - minimum).abs().max().item())
    assert furthest < 0.03


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tells_two_classes_apart(case, dtype):
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(64) % 2
    x = torch.randn(64, 2, generator=generator) + 2 * classes[:, None]
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)).to(dtype)
    optimizer = case.make(model.parameters(), lr=LRS[case.name])
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x.to(dtype)).float(), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < losses[0] / 1.5
