import pytest
import torch

from meta_train.estimators.greedy import Greedy
from meta_train.estimators.truncated_backprop import TruncatedBackprop
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.optim.update import Options, init_state, update
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

HIGH = MetaLoss(ceiling=10.0)
STEPS = 3


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
