import math

import pytest
import torch
from torch import nn

from ngopt.monitor.adam_comparison import AdamComparison
from ngopt.optim.update import Options
from tests.contract import assert_same


def gradients_of(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(3, 2, generator=generator, dtype=dtype), "b": torch.ones(2).to(dtype)}


def options_of(**options):
    return {"w": Options(1e-2, **options), "b": Options(torch.tensor(3e-2), **options)}


@pytest.mark.parametrize("maximize", [False, True])
def test_its_steps_are_those_of_torch_on_the_same_gradients(maximize):
    beside = AdamComparison()
    start = gradients_of(9)
    params = {name: nn.Parameter(tensor.clone()) for name, tensor in start.items()}
    groups = [{"params": [params["w"]]}, {"params": [params["b"]], "lr": 3e-2}]
    adam = torch.optim.Adam(groups, lr=1e-2, maximize=maximize)
    for seed in range(4):
        before = {name: p.detach().clone() for name, p in params.items()}
        for name, gradient in gradients_of(seed).items():
            params[name].grad = gradient
        adam.step()
        steps = beside.step(start, gradients_of(seed), options_of(maximize=maximize))
        for name, step in steps.items():
            moved = params[name].detach() - before[name]
            torch.testing.assert_close(step, moved, rtol=1e-4, atol=1e-6)


def test_gradients_that_are_not_finite_leave_no_trace():
    params = gradients_of(9)
    clean, hit = AdamComparison(), AdamComparison()
    for beside in (clean, hit):
        beside.step(params, gradients_of(0), options_of())
    hit.step(params, {**gradients_of(5), "b": torch.tensor([1.0, math.nan])}, options_of())
    expected = clean.step(params, gradients_of(1), options_of())
    assert_same(hit.step(params, gradients_of(1), options_of()), expected)


def test_parameters_come_and_go():
    params, options = gradients_of(9), options_of()
    beside, alone = AdamComparison(), AdamComparison()
    beside.step({"w": params["w"]}, {"w": params["w"]}, options)
    steps = beside.step(params, gradients_of(1), options)
    only = {"b": gradients_of(1)["b"]}
    assert torch.equal(steps["b"], alone.step(params, only, options)["b"])
    assert set(beside.step(params, only, options)) == {"b"}


def test_half_precision_is_followed_in_single():
    params = gradients_of(9, torch.bfloat16)
    gradients = gradients_of(0, torch.bfloat16)
    steps = AdamComparison().step(params, gradients, options_of())
    assert {step.dtype for step in steps.values()} == {torch.float32}
    wide = {name: gradient.float() for name, gradient in gradients.items()}
    assert_same(steps, AdamComparison().step(wide, wide, options_of()))
