import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.permute import permute, random_permutations
from ngopt.rules.dws import DWS
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, trajectory


def test_inputs_and_outputs_are_told_apart_and_hidden_neurons_are_not():
    rule = randomize(DWS(width=4))
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    (here,), _ = trajectory(rule, MLP, parameters, [gradients])
    errors = []
    for moved in (random_permutations(MLP, 0), {"x": torch.tensor([2, 0, 3, 1])}):
        (there,), _ = trajectory(
            rule, MLP, permute(MLP, parameters, moved), [permute(MLP, gradients, moved)]
        )
        errors.append(relative_error(there, permute(MLP, here, moved)))
    assert errors[0] < 1e-12
    assert errors[1] > 1e-3


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_every_tensor_hears_of_every_other(described):
    rule = randomize(DWS(width=4, layers=1, recipe="paper"))
    parameters, gradients = draw(described, 0), draw(described, 1)
    first = next(iter(gradients))
    (before,), _ = trajectory(rule, described, parameters, [gradients])
    turned = {**gradients, first: 2 * gradients[first]}
    (after,), _ = trajectory(rule, described, parameters, [turned])
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_fresh_deep_one_of_the_paper_takes_steps_of_order_one():
    rule = DWS(recipe="paper", layers=10)
    (update,), _ = trajectory(rule, MLP, draw(MLP, 0), [draw(MLP, 1)])
    sizes = [tensor.abs().max() for tensor in update.values()]
    assert min(sizes) > 1e-3
    assert max(sizes) < 10


@pytest.mark.parametrize("options", [{"width": 0}, {"layers": 1.5}])
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"DWS .*\n.*at least 1"):
        DWS(**options)
