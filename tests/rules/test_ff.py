import pytest
import torch

from ngopt.features.positions import TAP_POSITIONS
from ngopt.rules.ff import FF
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, trajectory, warm

every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


@every_graph
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fresh_it_is_the_fresh_default_rule(described, dtype):
    gradients = [draw(described, step, dtype) for step in (1, 2, 3)]
    runs = [
        trajectory(rule, described, draw(described, 0, dtype), gradients)
        for rule in (FF(), MatrixGNN(base_update={"evidence_least": 1.0}))
    ]
    for state in runs[1][1].values():
        assert state.pop("evidence") == 1.0  # the default rule alone keeps account of it
    for ours, default in zip(*(updates for updates, _ in runs), strict=True):
        assert relative_error(ours, default) <= 32 * torch.finfo(dtype).eps
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=0, atol=0)


@every_graph
def test_entries_do_not_hear_of_each_other(described):
    rule = randomize(FF(recipe="paper"))
    parameters, gradients, state = warm(rule, described)
    with torch.no_grad():
        before, _ = rule(parameters, gradients, state, described)
        for name, tensor in gradients.items():
            turned = tensor.clone()
            turned.view(-1)[0] += 1
            after, _ = rule(parameters, {**gradients, name: turned}, state, described)
            changed = {n: (after[n] != before[n]).sum().item() for n in after}
            assert changed == {n: int(n == name) for n in after}


@pytest.mark.parametrize("recipe", ["safe", "paper"])
def test_size_of_theta(recipe):
    rule = FF(hidden=7, layers=3, recipe=recipe)
    inputs = rule.recipe.channels + TAP_POSITIONS + rule.recipe.context
    outputs = {"safe": 1, "paper": 2}[recipe]
    assert [tuple(layer.weight.shape) for layer in rule.net.layers] == [
        (inputs, 7),
        (7, 7),
        (7, 7),
        (7, outputs),
    ]


def test_learning_the_network_moves_it_away_from_the_base_direction():
    fresh, learned = FF(), FF()
    randomize(learned.net)
    inputs = warm(fresh, MLP)
    with torch.no_grad():
        assert relative_error(learned(*inputs, MLP)[0], fresh(*inputs, MLP)[0]) > 1e-2


def test_config_builds_it_again():
    rule = FF(hidden=5, layers=1, recipe={"name": "paper", "p": 5}, positions=["depth"], seed=2)
    assert rule.config == {
        "hidden": 5,
        "layers": 1,
        "recipe": {"name": "paper", "magnitude": 0.01, "p": 5.0},
        "positions": ["depth"],
        "seed": 2,
    }
    assert FF(**rule.config).config == rule.config
