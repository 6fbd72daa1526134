"""Checks of PyTorch's TestOptimRenewed, over its description of optimizers, AdamW's beside ours."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, ReduceLROnPlateau, StepLR
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

from tests.optim.optimizer_info import INFO

INFOS = {info.optim_cls.__name__: info for info in optim_db if info.optim_cls.__name__ == "AdamW"}
INFOS["NeuralGraphOptimizer"] = INFO
every_info = pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
SCHEDULES = {
    "none": lambda optimizer: [],
    "steps": lambda optimizer: [StepLR(optimizer, gamma=0.9, step_size=10)],
    "warm-up and plateau": lambda optimizer: [
        LinearLR(optimizer, start_factor=0.4, total_iters=4),
        ReduceLROnPlateau(optimizer),
    ],
    "two": lambda optimizer: [
        ExponentialLR(optimizer, gamma=0.9),
        StepLR(optimizer, gamma=0.9, step_size=10),
    ],
}
INPUTS = {
    f"{name}, {given.desc}": (info, given)
    for name, info in INFOS.items()
    for given in info.optim_inputs_func("cpu")
    if not {"capturable", "foreach", "fused", "differentiable"} & set(given.kwargs)
}
every_input = pytest.mark.parametrize(("info", "given"), INPUTS.values(), ids=INPUTS)


def problem():
    """A weight, a bias and their loss on one sample."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(*s, generator=generator) for s in ((10, 5), (10,), (5,)))
    params = [nn.Parameter(weight), nn.Parameter(bias)]
    return params, lambda: (params[0].mv(x) + params[1]).square().sum()


def steps(optimizer, loss, count=1, schedulers=()):
    for _ in range(count):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step(*([value.detach()] if isinstance(scheduler, ReduceLROnPlateau) else []))


def check_direction(optimizer, loss, given, schedulers=()):
    """Twenty steps lower the loss, or raise it where they are to."""
    first = loss().item()
    steps(optimizer, loss, 20, schedulers)
    last = loss().item()
    assert last > first if given.kwargs.get("maximize") else last < first


def assert_same(found, expected):
    """State dicts are the same, to the last bit."""
    own = [state_dict.pop("ngopt", None) for state_dict in (found, expected)]
    assert own[0] == own[1]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def saved(optimizer):
    """Its state dict from a file, loaded safely."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_info
def test_errors(info):
    for error in info.optim_error_inputs_func("cpu", torch.float32):
        given = error.optimizer_error_input
        params = [nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
        assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
        if issubclass(error.error_type, Warning):
            with pytest.warns(error.error_type, match=error.error_regex):
                info.optim_cls(params, **given.kwargs)
        else:
            with pytest.raises(error.error_type, match=error.error_regex):
                info.optim_cls(params, **given.kwargs)


@every_input
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_goes_in_the_right_direction(info, given, schedule):
    params, loss = problem()
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    check_direction(optimizer, loss, given, schedule(optimizer))


@every_input
def test_groups_with_schedulers_go_in_the_right_direction(info, given):
    (weight, bias), loss = problem()
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.01}]
    optimizer = info.optim_cls(groups, **copy.deepcopy(given.kwargs))
    check_direction(optimizer, loss, given, [StepLR(optimizer, gamma=0.9, step_size=10)])


@every_input
def test_tensors_that_are_not_contiguous(info, given):
    (weight, bias), loss = problem()
    weight.data = weight.detach().mT.contiguous().mT
    assert not weight.is_contiguous()
    optimizer = info.optim_cls([weight, bias], **copy.deepcopy(given.kwargs))
    check_direction(optimizer, loss, given)


@every_input
def test_a_tensor_lr_is_as_good_as_a_number(info, given):
    found = []
    for as_lr in (float, torch.tensor):
        params, loss = problem()
        options = copy.deepcopy(given.kwargs) | {"lr": as_lr(0.01)}
        optimizer = info.optim_cls(params, **options)
        steps(optimizer, loss, 4, [ExponentialLR(optimizer, 0.9)])
        found.append(params)
    torch.testing.assert_close(*found)


@every_input
def test_no_gradient_is_no_step(info, given):
    params, _ = problem()
    before = copy.deepcopy(params)
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    optimizer.step()
    assert all(map(torch.equal, params, before))
    assert not optimizer.state


@every_input
def test_a_gradient_of_zeros_is_weight_decay_alone(info, given):
    params, _ = problem()
    before = copy.deepcopy(params)
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    for parameter in params:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decays = given.kwargs.get("weight_decay", optimizer.defaults["weight_decay"])
    for parameter, old in zip(params, before, strict=True):
        if decays is None:  # the rule's own, which spares vectors
            moves = optimizer.rule.weight_decay(1) > 0 and old.dim() > 1
        else:
            moves = bool(decays)
        assert torch.equal(parameter, old) != moves
        assert (parameter.abs() <= old.abs()).all()


@every_input
def test_every_parameter_has_state_after_a_step(info, given):
    params, loss = problem()
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    steps(optimizer, loss)
    assert all(optimizer.state[parameter] for parameter in params)


@every_input
def test_is_shown_with_its_options(info, given):
    params, _ = problem()
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    shown = repr(optimizer)
    assert shown.startswith(f"{info.optim_cls.__name__} (")
    assert all(f"{name}:" in shown for name in given.kwargs if name in optimizer.defaults)


@every_input
def test_goes_on_from_a_file_as_if_nothing_had_happened(info, given):
    params, loss = problem()
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    steps(optimizer, loss, 12)
    content = saved(optimizer)
    others, other_loss = problem()
    for other, parameter in zip(others, params, strict=True):
        other.data.copy_(parameter.detach())
    resumed = info.optim_cls(others, **copy.deepcopy(given.kwargs))
    resumed.load_state_dict(content)
    assert_same(saved(resumed), content)
    steps(optimizer, loss, 3)
    steps(resumed, other_loss, 3)
    assert all(map(torch.equal, params, others))


@every_input
def test_parameters_in_double_precision(info, given):
    params, x = [nn.Parameter(p.detach().double()) for p in problem()[0]], torch.ones(5).double()

    def double():
        return (params[0].mv(x) + params[1]).square().sum()

    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    check_direction(optimizer, double, given)
    assert all(parameter.dtype == torch.float64 for parameter in params)


@every_input
def test_copies_have_all_public_attributes(info, given):
    params, loss = problem()
    optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
    steps(optimizer, loss)
    copied = copy.deepcopy(optimizer)

    def public(of):
        return {name for name in vars(of) if not name.startswith("_")}

    assert public(copied) == public(optimizer)
    assert_same(copied.state_dict(), optimizer.state_dict())


@every_input
def test_two_runs_are_equal_to_the_last_bit(info, given):
    found = []
    for _ in range(2):
        params, loss = problem()
        optimizer = info.optim_cls(params, **copy.deepcopy(given.kwargs))
        steps(optimizer, loss, 12)
        found.append(saved(optimizer) | {"params": params})
    assert_same(*found)
