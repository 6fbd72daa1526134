"""Truncated backpropagation and the greedy estimator."""

import gc
from dataclasses import replace

import pytest
import torch

from meta_train.estimators.backprop import Greedy, TruncatedBackprop, derivative
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.optim.update import Options, init_state, update
from tests.meta_train.slow_unroll import slow_unroll
from tests.meta_train.small_tasks import (
    MEASURES,
    SMALL_RULES,
    Descent,
    Network,
    Quadratic,
    difference,
    equal,
    leaves,
    seeded,
    small_rule,
)

STEPS = 3
RUNS = 2
NUDGE = 1e-6
HIGH = MetaLoss(ceiling=10.0)


def estimator(rule, steps=STEPS, **options):
    # So that first steps are of this size whatever the unit of the rule's learning rate is.
    lr = 0.05 / float(rule.annealing_factor(0))
    return TruncatedBackprop(Stacked(rule, UnrollOptions(lr=lr, **options)), HIGH, steps)


def random_direction(rule):
    """A direction in theta, of unit length."""
    theta = dict(rule.named_parameters())
    sizes = [weight.numel() for weight in theta.values()]
    flat = torch.randn(sum(sizes), generator=seeded(7), dtype=torch.float64)
    parts = (flat / flat.norm()).split(sizes)
    return {n: part.view_as(theta[n]) for n, part in zip(theta, parts, strict=True)}


def central_difference(function, rule, direction):
    """Derivative of a function of theta along a direction."""
    theta = dict(rule.named_parameters())
    ends = [
        function({name: w.detach() + sign * NUDGE * direction[name] for name, w in theta.items()})
        for sign in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * NUDGE)


def along(gradient, direction):
    return sum((gradient[name] * direction[name]).sum() for name in gradient)


def check(gradient, function, rule):
    """Compare with central differences, to 1e-6 of the length of the gradient."""
    length = torch.cat([slope.flatten() for slope in gradient.values()]).norm()
    assert length > 1e-6
    along_itself = {name: slope / length for name, slope in gradient.items()}
    for direction in (along_itself, random_direction(rule)):
        found = central_difference(function, rule, direction)
        assert abs(found - along(gradient, direction)) < 1e-6 * length


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", SMALL_RULES)
def test_second_order_gradients_are_those_of_finite_differences(name, measure):
    rule = small_rule(name)
    backprop = estimator(rule, measure=measure, second_order=True)
    particles = backprop.begin(Network(), RUNS, seeded())
    runs = particles.runs
    state = runs.generator.get_state()
    gradient = backprop.estimate(particles).gradient

    @torch.no_grad()
    def meta_loss(theta):
        runs.generator.set_state(state)
        return HIGH(backprop.unroll.advance(runs, STEPS, theta).losses, runs.unit).mean()

    check(gradient, meta_loss, rule)


@pytest.mark.parametrize("measure", MEASURES)
def test_first_order_gradients_are_those_with_inner_gradients_that_stay_the_same(measure):
    rule, task = small_rule("small_fc"), Network()
    backprop = estimator(rule, measure=measure)
    particles = backprop.begin(task, 1, seeded())
    gradient = backprop.estimate(particles).gradient
    arguments = (backprop.unroll.options, particles.runs, 0, task.drawn, STEPS)
    given = slow_unroll(rule, *arguments).gradients

    def meta_loss(theta):
        copied = small_rule("small_fc")
        copied.load_state_dict(theta)
        losses = torch.stack(slow_unroll(copied, *arguments, given).losses).detach()
        return HIGH(losses[:, None], particles.runs.unit).mean()

    check(gradient, meta_loss, rule)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", SMALL_RULES)
def test_first_order_gradients_are_those_of_a_loop_that_detaches(name, measure):
    rule, task = small_rule(name), Network()
    backprop = estimator(rule, measure=measure, weight_decay=0.1)
    particles = backprop.begin(task, RUNS, seeded())
    estimate = backprop.estimate(particles)
    arguments = (backprop.unroll.options, particles.runs)
    slow = [slow_unroll(rule, *arguments, i, task.drawn, STEPS) for i in range(RUNS)]
    losses = torch.stack([torch.stack(run.losses) for run in slow], 1)
    meta_losses = HIGH(losses, particles.runs.unit)
    slopes = derivative(meta_losses.mean(), dict(rule.named_parameters()))
    flat, found = (
        torch.cat([slope.flatten() for slope in gradient.values()])
        for gradient in (slopes, estimate.gradient)
    )
    assert (found - flat).norm() < 1e-6 * flat.norm()
    assert difference(estimate.losses, meta_losses.detach()) < 1e-6


def test_the_orders_differ_where_gradients_depend_on_where_theta_led():
    first, second = (
        estimator(Descent(), second_order=order, measure="held_out") for order in (False, True)
    )
    gradients = [
        each.estimate(each.begin(Quadratic(), 2, seeded())).gradient for each in (first, second)
    ]
    assert difference(*gradients) > 0.01


def test_the_orders_agree_over_one_step():
    gradients = [
        each.estimate(each.begin(Quadratic(), 2, seeded())).gradient
        for each in (estimator(Descent(), 1, second_order=order) for order in (False, True))
    ]
    assert difference(*gradients) < 1e-12


def test_a_truncation_does_not_see_how_theta_led_to_its_start():
    backprop = estimator(Descent())
    first = backprop.estimate(backprop.begin(Quadratic(noise=1.0), 2, seeded())).particles
    state = first.runs.generator.get_state()
    gradient = backprop.estimate(first).gradient
    first.runs.generator.set_state(state)
    again = replace(first, runs=first.runs.detached())
    assert difference(gradient, backprop.estimate(again).gradient) == 0.0


def test_frozen_weights_get_zeros():
    rule = Descent()
    free, part = (estimator(rule) for _ in range(2))
    both = free.estimate(free.begin(Quadratic(), 2, seeded())).gradient
    rule.momentum.requires_grad_(False)
    one = part.estimate(part.begin(Quadratic(), 2, seeded())).gradient
    assert torch.equal(one["log_rate"], both["log_rate"])
    assert both["momentum"] != 0
    assert one["momentum"] == 0


def test_what_does_not_matter_has_a_derivative_of_zero():
    theta = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(3, requires_grad=True)}
    slopes = derivative((2 * theta["a"]).sum(), theta)
    assert {name: slope.tolist() for name, slope in slopes.items()} == {"a": [2, 2], "b": [0] * 3}
    none = derivative(torch.ones(()), theta)
    assert not any(slope.any() for slope in none.values())


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.usefixtures("few_objects")
def test_memory_does_not_grow_from_one_truncation_to_the_next(second_order):
    backprop = estimator(small_rule("matrix_gnn"), second_order=second_order)
    task = Network()
    particles, held = backprop.begin(task, RUNS, seeded()), []
    for _ in range(6):
        estimate = backprop.estimate(particles)
        particles = estimate.particles
        for tensor in (*leaves(particles.runs.tensors()), *estimate.gradient.values()):
            assert tensor.grad_fn is None
            assert not tensor.requires_grad
        task.drawn.clear()
        held.append(bytes_of_tensors())
    assert len(set(held[1:])) == 1
    advanced = backprop.unroll.advance(particles.runs, STEPS)
    task.drawn.clear()
    # Had the runs been kept as they come, with what they remember, it would show.
    assert advanced.losses.requires_grad
    assert bytes_of_tensors() > held[-1]


def bytes_of_tensors():
    """Bytes of the storages of all tensors that are alive."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("name", SMALL_RULES)
def test_it_is_the_loop_of_the_paper(name):
    rule, task = small_rule(name), Network()
    greedy = Greedy(Stacked(rule, UnrollOptions(lr=0.05, measure="same")), HIGH, STEPS)
    particles = greedy.begin(task, 1, seeded())
    begun = particles.runs
    estimate = greedy.estimate(particles)

    parameters = {name: tensor[0] for name, tensor in begun.parameters.items()}
    state = init_state(parameters, task.graph, rule)
    options = dict.fromkeys(parameters, Options(lr=begun.lr[0]))
    rule.zero_grad()
    for _, (inputs, labels) in task.drawn[:STEPS]:
        batch = inputs[0], labels[0]
        leaf = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        found = torch.autograd.grad(task.loss(leaf, {}, batch), list(leaf.values()))
        gradients = dict(zip(leaf, found, strict=True))
        updated = update(parameters, gradients, state, task.graph, rule, options)
        (task.loss(updated.params, {}, batch) / begun.unit[0] / STEPS).backward()
        parameters = {name: p.detach() for name, p in updated.params.items()}
        state = {n: {k: t.detach() for k, t in kept.items()} for n, kept in updated.state.items()}
    for name, weight in rule.named_parameters():
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        assert torch.allclose(estimate.gradient[name], expected, rtol=1e-6, atol=1e-12)
    assert any(slope.any() for slope in estimate.gradient.values())
    runs = estimate.particles.runs
    after = {name: tensor[0] for name, tensor in runs.parameters.items()}
    assert difference(after, parameters) < 1e-6


@pytest.mark.parametrize("measure", MEASURES)
def test_over_one_step_it_is_truncated_backprop(measure):
    unroll = Stacked(Descent(), UnrollOptions(lr=0.5, measure=measure))
    gradients = []
    for cls in (Greedy, TruncatedBackprop):
        estimator = cls(unroll, HIGH, 1)
        particles = estimator.begin(Quadratic(noise=1.0), 2, seeded())
        gradients.append(estimator.estimate(particles).gradient)
    assert equal(*gradients)


def test_it_goes_where_truncated_backprop_goes_but_sees_only_single_steps():
    unroll = Stacked(Descent(), UnrollOptions(lr=0.5))
    greedy, backprop = (
        each.estimate(each.begin(Quadratic(), 2, seeded()))
        for each in (cls(unroll, HIGH, STEPS) for cls in (Greedy, TruncatedBackprop))
    )
    assert equal(greedy.particles.runs.tensors(), backprop.particles.runs.tensors())
    assert difference(greedy.losses, backprop.losses) < 1e-12
    assert difference(greedy.gradient, backprop.gradient) > 0.05
    assert not any(t.requires_grad for t in leaves(greedy.particles.runs.tensors()))
