import pytest
import torch
from torch import nn

from ngopt.errors import RuleError
from ngopt.rules.across_lstm import AcrossLSTM
from ngopt.rules.ff import FF
from tests.rules.rule_inputs import GRAPHS, MLP, randomize, relative_error, warm

HIDDEN = 5


def rule(**options):
    return randomize(AcrossLSTM(HIDDEN, **options))


def torch_cell(rule):
    """torch's cell of the same weights."""
    cell = nn.LSTMCell(rule.entry_inputs, HIDDEN, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(rule.cell.inputs.weight.T)
        cell.weight_hh.copy_(rule.cell.recurrent.weight.T)
        cell.bias_ih.copy_(rule.cell.inputs.bias)
        cell.bias_hh.zero_()
    return cell


def noise(rule, bundles):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(bundles, rule.entry_inputs, generator=generator, dtype=torch.float64)


def test_on_a_chain_it_is_the_cell_of_torch():
    ours = rule()
    cell, x = torch_cell(ours), noise(ours, 4)
    state = (torch.zeros(1, HIDDEN, dtype=torch.float64),) * 2
    expected = []
    for row in x:
        state = cell(row[None], state)
        expected.append(state[0])
    torch.testing.assert_close(ours.across(x, [0.0, 0.3, 0.6, 1.0]), torch.cat(expected))


def test_equal_depths_step_from_the_same_state_and_hand_on_their_mean():
    ours = rule()
    cell, x = torch_cell(ours), noise(ours, 4)
    first, second = cell(x[:1]), cell(x[1:2])
    third = cell(x[2:3], tuple((a + b) / 2 for a, b in zip(first, second, strict=True)))
    fourth = cell(x[3:], third)
    expected = torch.cat([state[0] for state in (first, second, third, fourth)])
    torch.testing.assert_close(ours.across(x, [0.0, 0.0, 0.5, 1.0]), expected)


def test_bundles_may_come_in_any_order():
    ours = rule()
    x, depths = noise(ours, 5), [0.0, 0.4, 0.4, 0.4, 1.0]
    order = [3, 4, 0, 2, 1]
    expected = ours.across(x, depths)[order]
    found = ours.across(x[order], [depths[number] for number in order])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("recipe", ["safe", "paper"])
@pytest.mark.parametrize("name", MLP.parameters)
def test_tensors_hear_of_those_before_them_and_not_of_those_behind(name, recipe):
    ours = rule(recipe=recipe)
    parameters, gradients, state = warm(ours, MLP)
    moved = {**parameters, name: 2 + parameters[name]}
    with torch.no_grad():
        before, _ = ours(parameters, gradients, state, MLP)
        after, _ = ours(moved, gradients, state, MLP)
    depth = MLP.layout(name).depth
    changed = {other for other in before if not torch.equal(before[other], after[other])}
    behind = {other for other in before if MLP.layout(other).depth > depth}
    assert changed == behind | {name}


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_fresh_rule_leaves_the_step_to_the_safe_recipe(described):
    ours, plain = AcrossLSTM(HIDDEN), FF(hidden=3)
    inputs = warm(plain, described)
    (update, _), (expected, _) = ours(*inputs, described), plain(*inputs, described)
    assert relative_error(update, expected) < 1e-12


@pytest.mark.parametrize("name", ["hidden", "head_layers"])
def test_sizes_that_make_no_sense(name):
    with pytest.raises(RuleError, match=f"AcrossLSTM .*{name}=0"):
        AcrossLSTM(**{name: 0})
