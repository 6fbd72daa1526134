import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR

from meta_train import curves as module
from meta_train.curves import Budget, Curve, Setting, curves, smoothed, weights
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import problems
from ngopt.rules import SGDM, Adam, MatrixGNN
from tests.meta_train.small_tasks import Network, Quadratic

BUDGET = Budget(steps=20, problems=2, seed=3, batches=2)
SETTINGS = [
    Setting(0.01),
    Setting(0.03, "cosine"),
    Setting(0.02, "constant", 0.5),
    Setting(0.01, "cosine", 0.5),
]
SCHEDULES = {
    "constant": partial(ConstantLR, factor=1.0),
    "cosine": partial(CosineAnnealingLR, T_max=BUDGET.steps),
}


def torchs(task, setting, problem):
    """Losses of torch's AdamW on the batches that the task has drawn, and the trained weights."""
    drawn = problems(task, BUDGET.problems, torch.Generator().manual_seed(BUDGET.seed))
    started = {n: nn.Parameter(t[problem].clone()) for n, t in drawn.parameters.items()}
    optimizer = torch.optim.AdamW(started.values(), setting.lr, weight_decay=setting.weight_decay)
    schedule = SCHEDULES[setting.schedule](optimizer)
    losses = []
    for _, batch in task.drawn[: BUDGET.steps + 1]:
        loss = task.loss(started, {}, tuple(tensor[problem] for tensor in batch))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if len(losses) == BUDGET.steps:
            trained = {name: tensor.detach().clone() for name, tensor in started.items()}
    return torch.tensor(losses, dtype=torch.float64), trained


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-6, atol=0, check_dtype=False, equal_nan=True)


def alike(one, other):
    close(torch.tensor(list(_numbers(one.plain()))), torch.tensor(list(_numbers(other.plain()))))


def _numbers(plain):
    if isinstance(plain, dict | list):
        for item in plain.values() if isinstance(plain, dict) else plain:
            yield from _numbers(item)
    else:
        yield float(plain)


@pytest.fixture(scope="module")
def adam():
    task = Network()
    found = curves(Adam(), task, SETTINGS, BUDGET)
    del task.drawn[0]  # on which the work was counted
    return task, found


@pytest.mark.parametrize("number", range(len(SETTINGS)))
@pytest.mark.parametrize("problem", range(BUDGET.problems))
def test_equals_torch_on_the_same_batches(adam, number, problem):
    task, found = adam
    losses, trained = torchs(task, SETTINGS[number], problem)
    close(found[number].untrained[problem], losses[0])
    close(found[number].losses[:, problem], losses[1:])
    for split in ("held_out", "test"):
        batches = [batch for kind, batch in task.drawn if kind == split][: BUDGET.batches]
        batches = [tuple(tensor[problem] for tensor in batch) for batch in batches]
        for name, figure in (("loss", task.loss), ("accuracy", accuracy(task))):
            mean = torch.stack([figure(trained, {}, batch) for batch in batches]).mean()
            close(found[number].measured[split][name][problem], mean)
    assert not found[number].diverged.any()


def accuracy(task):
    return lambda *of: task.metrics(*of)["accuracy"]


def test_all_settings_see_the_same_problems_and_batches(adam):
    task, found = adam
    half = len(task.drawn) // 2
    for (split, first), (other, second) in zip(task.drawn[:half], task.drawn[half:], strict=True):
        assert split == other
        assert all(map(torch.equal, first, second))
    assert all(torch.equal(curve.untrained, found[0].untrained) for curve in found)


def test_many_settings_are_taken_in_turn(adam, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 1)
    for apart, together in zip(curves(Adam(), Network(), SETTINGS, BUDGET), adam[1], strict=True):
        alike(apart, together)


FLOPS = 2 * 8 * (3 * 4 + 4 * 2)
"""Of a forward pass of the network: a batch of 8 through 3 x 4 and 4 x 2 weights."""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (4 * FLOPS - 1, [[0], [1], [2], [3], [4]]),
        (4 * FLOPS, [[0, 2], [4], [1, 3]]),
        (6 * FLOPS, [[0, 2, 4], [1, 3]]),
    ],
)
def test_stacks_are_of_one_weight_decay_and_limited_work(monkeypatch, limit, expected):
    monkeypatch.setattr(module, "FLOPS_AT_ONCE", limit)
    settings = [Setting(0.1 * n, weight_decay=0.5 * (n % 2)) for n in range(5)]
    found = module.stacks(Network(), settings, problems=2)
    assert sorted(found) == sorted(expected)


def test_on_a_gpu_work_is_not_limited(monkeypatch):
    monkeypatch.setattr(module, "FLOPS_AT_ONCE", 1)
    task = Network()
    task.device = torch.device("meta")
    assert module.stacks(task, [Setting(0.1), Setting(0.2)], problems=2) == [[0, 1]]


def test_seeds_differ():
    first, second = (curves(Adam(), Network(), SETTINGS[:1], Budget(2, 2, s))[0] for s in (0, 1))
    assert not torch.isclose(first.losses, second.losses).any()


def test_runs_that_diverge_stay_at_their_limit_and_leave_others_alone():
    task = Quadratic(spread=0.1)
    mad, sane = curves(SGDM(momentum=0.0), task, [Setting(1e3), Setting(0.1)], BUDGET)
    assert mad.diverged.all()
    close(mad.losses[5:], (100 * mad.untrained).expand(15, -1))
    close(mad.measured["test"]["loss"], 100 * mad.untrained)
    assert not sane.diverged.any()
    (alone,) = curves(SGDM(momentum=0.0), task, [Setting(0.1)], BUDGET)
    alike(sane, alone)


def test_metrics_of_diverged_runs_are_lost():
    (mad,) = curves(SGDM(), Network(), [Setting(1e9)], BUDGET)
    assert mad.diverged.all()
    assert mad.measured["held_out"]["accuracy"].isnan().all()


def test_theta_stays_and_gets_no_gradient():
    rule = MatrixGNN(width=2, rounds=1, hidden=2)
    before = {name: weight.clone() for name, weight in rule.named_parameters()}
    (curve,) = curves(rule, Network(), [Setting()], Budget(3, 1, batches=1))
    assert not curve.losses.requires_grad
    for name, weight in rule.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None


def test_plain_and_back(adam):
    alike(Curve.of(adam[1][0].plain()), adam[1][0])


def test_final_is_the_mean_of_the_last_tenth():
    losses = torch.arange(40.0).unsqueeze(1)
    curve = Curve(losses, torch.ones(1), {}, torch.zeros(1, dtype=torch.bool))
    assert curve.final.item() == (36 + 37 + 38 + 39) / 4


def test_smoothed_is_a_running_mean():
    losses = torch.rand(30, 2)
    expected = [losses[max(0, step - 2) : step + 1].double().mean(0) for step in range(30)]
    torch.testing.assert_close(smoothed(losses), torch.stack(expected))


def test_weights_are_counted():
    task = Network()
    assert weights(task) == sum(p.numel() for p in task.module.parameters())


def test_settings_say_what_they_are():
    assert str(Setting(0.01, "cosine")) == "lr 0.01 cosine"
    assert str(Setting(3e-4, weight_decay=0.1)) == "lr 0.0003 constant, weight decay 0.1"
    assert math.isclose(Setting(2.0, "cosine").rate(5, 10), 1.0)


@pytest.mark.parametrize("name", ["steps", "problems", "batches"])
def test_budget_of_nothing(name):
    with pytest.raises(MetaTrainError, match=f"{name}=0"):
        Budget(**{name: 0})
