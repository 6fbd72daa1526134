"""Derivatives with respect to theta, which meta-training follows."""

import pytest
import torch
from torch.func import functional_call

from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, warm
from tests.rules.table import RULES, every_rule, every_rule_with

LEARNED = [name for name, make in RULES.items() if any(True for _ in make().parameters())]
UNUSED_BY_DESIGN = {
    "matrix_gnn without context": (
        # Theta has the same shape with and without neurons, so that one can go on as the other.
        "start",
        "source",
        "rounds",
        "head.out_neuron",
        "head.in_neuron",
    ),
}
"""By name of the rule: the beginnings of names of theta that its options switch off, and why."""

ALL_ZERO = {
    f"{dtype}-{zero}": (described, dtype, zero)
    for zero in ("gradients", "parameters", "both")
    for described, dtype in ((GRAPHS["residual_convnet"], torch.float32), (MLP, torch.float64))
}
"""Of what graph, in what precision, and what is 0."""

every_learned_rule = pytest.mark.parametrize("name", LEARNED)


def two_steps(rule, theta, described, parameters):
    """A number that depends on two steps from a fresh state: the second sees what the first did."""
    state = rule.init_state(parameters, described)
    weights = [draw(described, 40 + step) for step in range(2)]
    total = 0.0
    for step in range(2):
        given = (parameters, draw(described, step + 1), state, described)
        update, state = functional_call(rule, theta, given)
        total = total + sum((weights[step][n] * update[n]).sum() for n in update)
        parameters = {n: parameters[n] - 0.1 * update[n] for n in update}
    return total


@every_rule_with("described", GRAPHS, each=1, of=LEARNED)
def test_finite_differences(make, described):
    rule = randomize(make()).double()
    theta = dict(rule.named_parameters())
    generator = torch.Generator().manual_seed(1)
    direction = {
        n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in theta.items()
    }
    parameters = draw(described, 0)

    def along(distance):
        moved = {n: tensor + distance * direction[n] for n, tensor in theta.items()}
        return two_steps(rule, moved, described, parameters)

    distance = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(along(distance), distance)
    assert slope.abs() > 1e-3
    with torch.no_grad():
        # A ReLU that turns on or off on the way spoils a difference: then a nearer one must agree.
        differences = ((along(d) - along(-d)) / (2 * d) for d in (1e-6, 1e-7, 1e-8))
        assert any(torch.isclose(slope, found, rtol=1e-5, atol=0) for found in differences)


@every_learned_rule
def test_all_of_theta_can_be_learnt(name):
    rule = randomize(RULES[name]()).double()
    theta = dict(rule.named_parameters())
    graphs = GRAPHS["residual_convnet"], GRAPHS["attention_block"]
    total = sum(two_steps(rule, theta, g, draw(g, 0)) for g in graphs)
    slopes = torch.autograd.grad(total, theta.values(), allow_unused=True)
    without = {n for n, s in zip(theta, slopes, strict=True) if s is None or not s.any()}
    switched_off = {n for n in theta if n.startswith(UNUSED_BY_DESIGN.get(name, ()))}
    assert without == switched_off
    assert all(slope.isfinite().all() for slope in slopes if slope is not None)


@every_rule_with("case", ALL_ZERO, each=1)
def test_slopes_are_finite_where_all_is_zero(make, case):
    described, dtype, zero = case
    rule = randomize(make())
    parameters, gradients = draw(described, 0, dtype), draw(described, 1, dtype)
    if zero != "gradients":
        parameters = {n: torch.zeros_like(t) for n, t in parameters.items()}
    if zero != "parameters":
        gradients = {n: torch.zeros_like(t) for n, t in gradients.items()}
    leaves = [t.requires_grad_() for t in (*parameters.values(), *gradients.values())]
    state = rule.init_state({n: t.detach() for n, t in parameters.items()}, described)
    for _ in range(2):
        update, state = rule(parameters, gradients, state, described)
        assert all(tensor.isfinite().all() for tensor in update.values())
    total = sum((draw(described, 2, dtype)[n] * update[n]).sum() for n in update)
    slopes = torch.autograd.grad(total, [*leaves, *rule.parameters()], allow_unused=True)
    assert any(slope is not None for slope in slopes)
    assert all(slope.isfinite().all() for slope in slopes if slope is not None)


@every_rule
def test_slopes_of_parameters_and_gradients_are_finite(make):
    rule = randomize(make())
    parameters, gradients, state = warm(rule, MLP)
    leaves = [t.requires_grad_() for t in (*parameters.values(), *gradients.values())]
    update, _ = rule(parameters, gradients, state, MLP)
    total = sum((draw(MLP, 2)[n] * update[n]).sum() for n in update)
    slopes = torch.autograd.grad(total, leaves, allow_unused=True)
    of_gradients = slopes[len(parameters) :]
    assert all(slope is not None and slope.any() for slope in of_gradients)
    assert all(slope.isfinite().all() for slope in slopes if slope is not None)
