import copy

import pytest
import torch
from torch.optim import lr_scheduler as schedulers
from torch.optim import swa_utils

from tests.contract import Small, assert_same, backward, copy_of, every_plain_case, train

MAKERS = {
    "lambda": lambda o: schedulers.LambdaLR(o, lambda epoch: 0.9**epoch),
    "multiplicative": lambda o: schedulers.MultiplicativeLR(o, lambda _: 0.9),
    "step": lambda o: schedulers.StepLR(o, 1),
    "multistep": lambda o: schedulers.MultiStepLR(o, [1, 2]),
    "constant": lambda o: schedulers.ConstantLR(o, 0.5, 2),
    "linear": lambda o: schedulers.LinearLR(o, 0.5, total_iters=3),
    "exponential": lambda o: schedulers.ExponentialLR(o, 0.9),
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, 4),
    "restarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 2),
    "polynomial": lambda o: schedulers.PolynomialLR(o, 4),
    "cyclic": lambda o: schedulers.CyclicLR(o, 1e-3, 1e-2, 2, cycle_momentum=False),
    "one-cycle": lambda o: schedulers.OneCycleLR(o, 1e-2, 5, cycle_momentum=False),
    "chained": lambda o: schedulers.ChainedScheduler(
        [schedulers.ExponentialLR(o, 0.9), schedulers.StepLR(o, 2)], o
    ),
    "sequential": lambda o: schedulers.SequentialLR(
        o, [schedulers.ConstantLR(o, 0.5, 1), schedulers.ExponentialLR(o, 0.9)], [2]
    ),
    "swa": lambda o: swa_utils.SWALR(o, 1e-3, 2),
}


def _lrs_and_params(case, make, lr):
    torch.manual_seed(0)
    model = Small()
    optimizer = case.build(model, lr=lr)
    scheduler = make(optimizer)
    lrs = []
    for seed in range(4):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        backward(model, seed)
        optimizer.step()
        scheduler.step()
    return lrs, copy_of(model)


@every_plain_case
@pytest.mark.parametrize("scheduler", MAKERS)
def test_schedulers_set_the_lr_of_the_next_step(case, scheduler):
    lrs, scheduled = _lrs_and_params(case, MAKERS[scheduler], 1e-2)
    assert len(set(lrs)) > 1
    torch.manual_seed(0)
    model = Small()
    optimizer = case.build(model)
    for seed, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        train(model, optimizer, 1, start=seed)
    assert_same(copy_of(model), scheduled)


@every_plain_case
def test_plateau(case):
    model = Small()
    optimizer = case.build(model)
    scheduler = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(3):
        train(model, optimizer, 1)
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-3)


@every_plain_case
def test_scheduler_and_optimizer_resume_together(case):
    torch.manual_seed(0)
    model = Small()
    optimizer = case.build(model)
    scheduler = MAKERS["one-cycle"](optimizer)
    train(model, optimizer, 1)
    scheduler.step()
    other = Small()
    other.load_state_dict(model.state_dict())
    resumed = case.build(other)
    resumed_scheduler = MAKERS["one-cycle"](resumed)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    resumed_scheduler.load_state_dict(scheduler.state_dict())
    for m, o, s in ((model, optimizer, scheduler), (other, resumed, resumed_scheduler)):
        train(m, o, 1, start=1)
        s.step()
        train(m, o, 1, start=2)
    assert_same(copy_of(model), copy_of(other))


@every_plain_case
def test_lr_may_be_a_tensor(case):
    number, tensor = Small(), Small()
    tensor.load_state_dict(number.state_dict())
    # In torch only the paths for one tensor at a time take every tensor lr.
    options = {} if case.name.startswith("ours") else {"foreach": False}
    train(number, case.build(number, **options))
    train(tensor, case.build(tensor, lr=torch.tensor(1e-2), **options))
    torch.testing.assert_close(copy_of(number), copy_of(tensor), rtol=1e-5, atol=1e-6)


@every_plain_case
def test_a_scheduler_keeps_a_tensor_lr_a_tensor(case):
    options = {} if case.name.startswith("ours") else {"foreach": False}
    model = Small()
    lr = torch.tensor(1e-2)
    optimizer = case.build(model, lr=lr, **options)
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    train(model, optimizer, 1)
    scheduler.step()
    assert torch.is_tensor(optimizer.param_groups[0]["lr"])
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(5e-3)
