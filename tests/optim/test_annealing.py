import itertools
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from ngopt import NeuralGraphOptimizer
from ngopt.errors import OptionError
from ngopt.optim.annealing import Clock
from ngopt.rules.adam import Adam
from ngopt.rules.matrix_gnn import MatrixGNN

BASE_UPDATE = MatrixGNN().base_update


class Constant(MatrixGNN):
    """Goes one way whatever the gradients are, so that a step tells how it was annealed."""

    def steps_in_place(self, gradients):
        return False

    def updates(self, parameters, gradients, state, graph):
        for change in super().updates(parameters, gradients, state, graph):
            yield change._replace(update=torch.ones_like(change.update))


def steps_of(rates, age=0, **options):
    """Sizes of the steps at learning rates that a script sets, in thousandths, in units of them.

    Args:
        rates: the learning rates.
        age: number of steps that were made before.
        options: of the optimizer.
    """
    parameter = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = NeuralGraphOptimizer([parameter], lr=1e-3, rule=Constant(), **options)
    optimizer.param_groups[0]["age"] = age
    sizes = []
    for rate in (1e-3 * thousandths for thousandths in rates):
        optimizer.param_groups[0]["lr"] = rate
        before = parameter.item()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        sizes.append((before - parameter.item()) / rate)
    return sizes


def built_in(*ages):
    return [BASE_UPDATE.annealing_factor(age) for age in ages]


def test_at_a_constant_rate_steps_shrink_with_their_number():
    assert steps_of([0.5] * 5) == pytest.approx(built_in(1, 2, 3, 4, 5))


@pytest.mark.parametrize("rate", [3.0, 5.0, 10.0, 1000.0])
def test_a_high_rate_is_not_made_much_higher(rate):
    most = max(1.0, 10 / rate)
    assert steps_of([rate] * 3) == pytest.approx([most] * 3)
    # Nor is one that was as high before.
    assert steps_of([rate, rate / 2])[1] == pytest.approx(min(most, BASE_UPDATE.steady_boost))


def test_steps_of_a_warm_up_count_until_they_are_adamw_s():
    assert steps_of([0.001, 0.002, 0.003]) == pytest.approx(built_in(1, 2, 3))
    last = max(age for age in range(1, 1001) if BASE_UPDATE.annealing_factor(age) >= 1)
    assert 500 < last < 700
    found = steps_of([*(0.1 * step for step in range(1, 11)), 1.0, 1.0, 0.5], age=last - 4)
    assert found[:4] == pytest.approx(built_in(last - 3, last - 2, last - 1, last))
    assert found[4:10] == pytest.approx(built_in(last) * 6)
    assert found[10:] == pytest.approx(built_in(last + 1, last + 2, last + 2))


def test_once_the_rate_is_lowered_it_alone_decides():
    rates = [1.0, 1.0, 0.5, 0.5, 0.25, 1.0, 2.0]
    assert steps_of(rates) == pytest.approx([*built_in(1, 2), *[BASE_UPDATE.steady_boost] * 5])


def test_the_size_never_grows_where_the_rate_is_lowered_late():
    found = steps_of([1.0] * 3 + [0.1] * 3, age=297)
    assert found[-3:] == pytest.approx(built_in(300) * 3)
    assert found[-1] < BASE_UPDATE.steady_boost


@pytest.mark.parametrize(
    ("anneal", "expected"),
    [(True, built_in(1, 2, 3, 4)), (False, [BASE_UPDATE.steady_boost] * 4)],
)
def test_who_wants_to_decides_by_an_option(anneal, expected):
    assert steps_of([0.1, 0.2, 0.2, 0.1], anneal=anneal) == pytest.approx(expected)


def test_rounding_is_no_schedule():
    rates = [0.1, 0.1 * (1 - 1e-9), 0.1 * (1 + 1e-15), 0.1]
    assert not Clock(1, 0.1, False, 1).after(rates[1], MatrixGNN()).lowered
    assert steps_of(rates) == pytest.approx(built_in(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("make", "lowered"),
    [
        (lambda o: lr_scheduler.ConstantLR(o, 1.0), False),
        (lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 3), False),
        (lambda o: lr_scheduler.StepLR(o, 3), True),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 20), True),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 20, cycle_momentum=False), True),
        (lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 5)), False),
    ],
    ids=["constant", "warm-up", "step", "cosine", "one-cycle", "warm-up by hand"],
)
def test_schedulers(make, lowered):
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = NeuralGraphOptimizer([parameter], lr=1e-3)
    scheduler = make(optimizer)
    for _ in range(12):
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lowered"] is lowered


def test_groups_age_on_their_own():
    first, second = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    optimizer = NeuralGraphOptimizer([{"params": [first]}, {"params": [second], "lr": 0.1}])
    for step in range(4):
        first.grad, second.grad = torch.ones(3), torch.ones(3)
        optimizer.param_groups[1]["lr"] = 0.1 / (step + 1)
        optimizer.step()
    assert [group["age"] for group in optimizer.param_groups] == [4, 1]
    assert [group["lowered"] for group in optimizer.param_groups] == [False, True]


def test_a_skipped_step_does_not_age():
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = NeuralGraphOptimizer([parameter])
    for gradient in (1.0, math.nan, 1.0):
        parameter.grad = torch.full((3,), gradient)
        optimizer.step()
    assert optimizer.param_groups[0]["age"] == 2


def test_annealing_goes_on_after_a_checkpoint():
    def begun():
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, NeuralGraphOptimizer(model.parameters())

    def train(model, optimizer, rates):
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    rates = [1e-3, 2e-3, 2e-3, 1e-3, 5e-4, 5e-4]
    model, optimizer = begun()
    whole = train(model, optimizer, rates)
    for half in range(1, len(rates)):
        model, optimizer = begun()
        train(model, optimizer, rates[:half])
        other, again = begun()
        other.load_state_dict(model.state_dict())
        again.load_state_dict(optimizer.state_dict())
        assert torch.equal(train(other, again, rates[half:]), whole)


def test_a_state_from_before_there_was_annealing_begins_it():
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = NeuralGraphOptimizer([parameter])
    saved = optimizer.state_dict()
    for key in ("anneal", *Clock._fields):
        del saved["param_groups"][0][key]
    optimizer.load_state_dict(saved)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.param_groups[0]["age"] == 1


def test_restart_begins_anew_and_forgets_no_gradient():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = NeuralGraphOptimizer(model.parameters())
    for rate in itertools.chain([1e-3] * 20, [1e-4] * 5):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    before = {p: dict(optimizer.state[p]) for p in model.parameters()}
    assert all(state["evidence"] > 0.1 for state in before.values())
    optimizer.restart()
    group = optimizer.param_groups[0]
    assert (group["age"], group["lowered"], group["lr"]) == (0, False, 1e-4)
    for parameter, state in before.items():
        now = optimizer.state[parameter]
        assert now["evidence"] == 0.0
        assert all(torch.equal(now[key], state[key]) for key in ("step", "fast", "slow", "square"))


def test_what_was_earned_before_a_restart_does_not_come_back():
    parameter = nn.Parameter(torch.zeros(200))
    optimizer = NeuralGraphOptimizer([parameter])
    generator = torch.Generator().manual_seed(0)
    for step in range(202):
        noise = torch.randn(200, generator=generator)
        parameter.grad = torch.ones(200) if step < 10 else noise
        optimizer.step()
    assert optimizer.state[parameter]["evidence"] == 1.0
    optimizer.restart()
    for _ in range(10):
        parameter.grad = torch.randn(200, generator=generator)
        optimizer.step()
        assert optimizer.state[parameter]["evidence"] < 0.2


def test_a_group_without_gradients_does_not_age():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = NeuralGraphOptimizer([{"params": [first]}, {"params": [second]}])
    for step in range(5):
        first.grad = torch.ones(2)
        second.grad = torch.ones(2) if step > 2 else None
        optimizer.step()
    assert [group["age"] for group in optimizer.param_groups] == [5, 2]


def test_other_values_of_anneal_are_refused():
    with pytest.raises(OptionError, match="anneal='no' makes no sense"):
        NeuralGraphOptimizer([nn.Parameter(torch.ones(2))], anneal="no")


SHOWN = {
    "built-in": (None, "None (steps shrink by themselves until lr is lowered; 3 so far)"),
    "always": (True, "True (steps shrink by themselves, also while lr is lowered; 3 so far)"),
    "never": (False, "False (lr alone makes steps shrink)"),
}


@pytest.mark.parametrize(("anneal", "words"), SHOWN.values(), ids=SHOWN)
def test_repr_says_in_words_what_makes_steps_shrink(anneal, words):
    parameter = nn.Parameter(torch.ones(2))
    optimizer = NeuralGraphOptimizer([parameter], anneal=anneal)
    for _ in range(3):
        parameter.grad = torch.ones(2)
        optimizer.step()
    own = optimizer.rule.weight_decay(3)
    lines = [
        f"anneal: {words}",
        "capturable: False",
        "lr: 0.001",
        "maximize: False",
        f"weight_decay: None (the rule's own: {own:.3g} for matrices)",
    ]
    expected = "".join(f"    {line}\n" for line in lines)
    assert repr(optimizer) == f"NeuralGraphOptimizer (\nParameter Group 0\n{expected})"


def test_repr_says_that_a_schedule_has_taken_over():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = NeuralGraphOptimizer([parameter])
    for optimizer.param_groups[0]["lr"] in (1e-3, 1e-4):
        parameter.grad = torch.ones(2)
        optimizer.step()
    assert "anneal: None (lr was lowered; now it alone makes steps shrink)" in repr(optimizer)


def test_repr_says_that_a_rule_does_not_anneal():
    shown = repr(NeuralGraphOptimizer([nn.Parameter(torch.ones(2))], rule=Adam()))
    assert "anneal: None (the rule has no annealing of its own; lr alone" in shown


def test_weight_decay_shrinks_with_steps_and_is_never_more_than_adamw_s():
    parameter = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = NeuralGraphOptimizer([parameter], lr=0.01, weight_decay=0.1, rule=MatrixGNN())
    shares, ages = [], (1, 2, 3, 30, 500, 600, 700, 1000, 2000)
    for age in ages:
        optimizer.param_groups[0]["age"] = age - 1
        before = parameter.detach().clone()
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        shares.append(((1 - parameter / before) / (0.01 * 0.1)).mean().item())
    expected = [min(1.0, BASE_UPDATE.annealing_factor(age)) for age in ages]
    assert shares == pytest.approx(expected, rel=1e-6)
    assert shares[0] == pytest.approx(1.0)
    assert shares[-1] < 0.5


def test_rules_that_do_not_anneal_are_left_alone():
    rule = Adam()
    assert rule.annealing_factor(5) == rule.annealing_factor(torch.tensor(5.0), lowered=True) == 1.0


DECAYING = {"base_update": {"late_decay": 2.0, "late_decay_reference": 10.0}}
LINEAR = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}


def decayed(rates, groups, **options):
    """What becomes of a matrix and a bias at learning rates that a script sets."""
    named = {name: nn.Parameter(tensor.clone()) for name, tensor in LINEAR.items()}
    rule = MatrixGNN(**DECAYING)
    optimizer = NeuralGraphOptimizer(
        [{"params": [named[name] for name in names]} for names in groups], rule=rule, **options
    )
    for step, rate in enumerate(rates):
        for parameter in named.values():
            parameter.grad = torch.full_like(parameter, 1.0 + step)
        for group in optimizer.param_groups:
            group["lr"] = rate
            if group["weight_decay"] is not None and group["params"][0].dim() > 1:
                group["weight_decay"] = rule.weight_decay(step + 1)
        optimizer.step()
    return named, optimizer


@pytest.mark.parametrize("rates", [[0.1] * 6, [0.1, 0.08, 0.05, 0.02]], ids=["constant", "lowered"])
def test_the_rule_s_own_weight_decay_grows_and_spares_biases(rates):
    own, optimizer = decayed(rates, [["weight", "bias"]], weight_decay=None)
    by_hand, _ = decayed(rates, [["weight"], ["bias"]], weight_decay=0.0)
    for name in LINEAR:
        torch.testing.assert_close(own[name], by_hand[name])
    assert optimizer.param_groups[0]["steps"] == len(rates)
    assert optimizer.param_groups[0]["weight_decay"] is None


def test_half_of_the_own_weight_decay_is_reached_after_so_many_steps():
    base_update = MatrixGNN(**DECAYING).base_update
    found = [base_update.weight_decay(steps) for steps in (0, 10, 10**9)]
    assert found == pytest.approx([0.0, 1.0, 2.0])


def test_most_rules_have_no_weight_decay_of_their_own():
    found = []
    for decay in (None, 0.0):
        parameter = nn.Parameter(torch.ones(3, 2))
        optimizer = NeuralGraphOptimizer([parameter], rule=Adam(), weight_decay=decay)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        found.append(parameter.detach())
    assert torch.equal(*found)
