"""No rule depends on the order in which parameters stand, in any dict."""

import random
from dataclasses import replace

from tests.rules.rule_inputs import GRAPHS, draw, randomize, relative_error, trajectory
from tests.rules.table import every_rule, every_rule_with

STEPS = 2


def reordered(mapping, order):
    names = sorted(mapping)
    if order == "backward":
        names.reverse()
    elif order != "forward":
        random.Random(order).shuffle(names)
    return {name: mapping[name] for name in names}


def run(rule, described, tensors, order):
    """Updates of a few steps, with everything given, and described, in some order."""
    parameters, *gradients = [reordered(item, order) for item in tensors]
    in_order = {
        "spaces": reordered(described.spaces, order),
        "layouts": reordered(described.layouts, order),
    }
    return trajectory(rule, replace(described, **in_order), parameters, gradients)[0]


@every_rule_with("described", GRAPHS, each=1)
def test_order_of_parameters_makes_no_difference(make, described):
    rule = randomize(make())
    tensors = [draw(described, seed) for seed in range(STEPS + 1)]
    expected = run(rule, described, tensors, "forward")
    for order in ("backward", 1):
        found = run(rule, described, tensors, order)
        for step in range(STEPS):
            assert relative_error(found[step], expected[step]) <= 1e-12


@every_rule
def test_order_of_the_state_makes_no_difference(make):
    described = GRAPHS["attention_block"]
    rule = randomize(make())
    parameters, gradients = draw(described, 0), draw(described, 1)
    _, state = trajectory(rule, described, parameters, [gradients])
    turned = {name: reordered(state[name], "backward") for name in reordered(state, 3)}
    expected, _ = rule(parameters, gradients, state, described)
    found, _ = rule(parameters, gradients, turned, described)
    assert relative_error(found, expected) <= 1e-12
