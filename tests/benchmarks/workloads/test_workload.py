import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR

from benchmarks.workloads.workload import Recipe, cosine, linear


def rates(scheduler, optimizer, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def sgd():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (cosine(10), lambda o: CosineAnnealingLR(o, 10)),
        (cosine(10, final=0.2), lambda o: CosineAnnealingLR(o, 10, eta_min=0.2)),
        (linear(10), lambda o: LinearLR(o, 1.0, 0.0, 10)),
        (linear(10, final=0.2), lambda o: LinearLR(o, 1.0, 0.2, 10)),
    ],
)
def test_schedules_without_warmup_are_torchs(ours, torchs):
    mine, theirs = sgd(), sgd()
    own = rates(LambdaLR(mine, ours), mine, 11)
    assert own == pytest.approx(rates(torchs(theirs), theirs, 11), abs=1e-6)
    assert own[0] == 1


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_warmup_rises_to_one_and_never_starts_at_zero(schedule):
    factor = schedule(20, warmup=4)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factor(12) == pytest.approx(0.5)
    assert factor(20) == factor(25) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_warmup_as_long_as_the_run(schedule):
    assert schedule(4, warmup=4)(3) == 1.0


def test_groups_decay_matrices_alone_and_leave_out_frozen_parameters():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[1].weight.requires_grad_(False)
    with_decay, without = Recipe(torch.optim.AdamW, 1e-3, decayed=0.1).groups(model)
    assert with_decay == {"params": [model[0].weight], "weight_decay": 0.1}
    assert without == {"params": [model[0].bias, model[1].bias], "weight_decay": 0.0}
    (everything,) = Recipe(torch.optim.AdamW, 1e-3).groups(model)
    assert everything["weight_decay"] == 0.0
    assert len(everything["params"]) == 3
