from copy import deepcopy

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.outer import Outer, OuterOptions
from ngopt.rules import FF, Adam


def gradient(rule, size):
    generator = torch.Generator().manual_seed(1)
    return {n: size * torch.randn(p.shape, generator=generator) for n, p in rule.named_parameters()}


def test_first_step_is_one_of_adamw_at_the_warmed_up_rate():
    rule, twin = FF(), FF()
    slope = gradient(rule, 1e-3)
    outer = Outer(rule, OuterOptions(lr=0.02, warmup=4, weight_decay=0.1))
    reference = torch.optim.AdamW(twin.parameters(), 0.005, (0.9, 0.99), weight_decay=0.1)
    outer.step(slope, 0, 10)
    for name, weight in twin.named_parameters():
        weight.grad = slope[name]
    reference.step()
    for ours, theirs in zip(rule.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_parts_learn_at_rates_of_their_own():
    rule = FF()
    before = {name: weight.detach().clone() for name, weight in rule.named_parameters()}
    options = OuterOptions(lr=0.01, warmup=0, inputs=4, factors={"net": 3.0})
    Outer(rule, options).step(gradient(rule, 1.0), 0, 10)
    factors = set()
    for name, weight in rule.named_parameters():
        factor = 3.0 if name.startswith("net") else 1.0
        if weight.dim() == 2:
            factor *= min(1.0, 4 / weight.shape[0])
        step = (weight - before[name]).abs()
        torch.testing.assert_close(step, torch.full_like(step, 0.01 * factor), rtol=1e-2, atol=0)
        factors.add(factor)
    assert len(factors) > 3


def test_long_meta_gradients_are_clipped_and_their_norm_reported():
    rule, twin = FF(), FF()
    slope = gradient(rule, 1.0)
    norm = torch.cat([g.flatten() for g in slope.values()]).norm()
    # Adam's step hardly tells the length of a gradient; its moments do.
    outers = [Outer(r, OuterOptions(clip=0.5, warmup=0)) for r in (rule, twin)]
    assert float(outers[0].step(slope, 0, 10)) == pytest.approx(float(norm))
    outers[1].step({n: g * (0.5 / norm) for n, g in slope.items()}, 0, 10)
    moments = [outer.state_dict()["state"][0]["exp_avg"] for outer in outers]
    torch.testing.assert_close(*moments)


def test_rate_ends_at_the_final_fraction():
    options = OuterOptions(lr=2.0, warmup=10, final=0.25)
    rates = [options.rate(step, 110) for step in range(111)]
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(1.25)
    assert rates[110] == options.rate(500, 110) == pytest.approx(0.5)


def test_state_goes_on():
    rule, twin = FF(), FF()
    first = Outer(rule, OuterOptions())
    first.step(gradient(rule, 1e-3), 0, 10)
    second = Outer(twin, OuterOptions())
    twin.load_state_dict(rule.state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))
    for outer, owner in ((first, rule), (second, twin)):
        outer.step(gradient(owner, 2e-3), 1, 10)
    for ours, theirs in zip(rule.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"final": 2.0}, {"warmup": -1}, {"clip": 0.0}, {"beta2": 1.0}]
)
def test_options_that_make_no_sense(wrong):
    with pytest.raises(MetaTrainError, match="makes no sense"):
        OuterOptions(**wrong)


def test_rule_without_theta():
    with pytest.raises(MetaTrainError, match="Adam has no weights to learn"):
        Outer(Adam(), OuterOptions())
