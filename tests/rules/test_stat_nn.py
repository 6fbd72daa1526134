import pytest

from ngopt.errors import RuleError
from ngopt.nn.sets import STATISTICS
from ngopt.rules.stat_nn import StatNN
from tests.rules.rule_inputs import MLP, draw, randomize, trajectory


def test_an_entry_is_heard_in_its_tensor_and_nowhere_else():
    rule = randomize(StatNN(width=4, recipe="paper"))
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    turned = gradients["2.weight"].clone()
    turned[0, 0] *= 3
    (before,), _ = trajectory(rule, MLP, parameters, [gradients])
    (after,), _ = trajectory(rule, MLP, parameters, [{**gradients, "2.weight": turned}])
    for name, update in after.items():
        changed = update != before[name]
        assert changed.all() if name == "2.weight" else not changed.any()


def test_the_bundle_is_known_by_its_statistics():
    rule = StatNN(width=4, layers=3)
    channels, context = rule.recipe.channels, rule.recipe.context
    shapes = [tuple(layer.weight.shape) for layer in rule.whole.layers]
    assert shapes == [(STATISTICS * channels + context, 4), (4, 4), (4, 4), (4, 4)]
    assert rule.entry.layers[0].weight.shape == (rule.entry_inputs + 4, 4)


@pytest.mark.parametrize("options", [{"width": 0}, {"layers": 0}])
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"StatNN .*\n.*at least 1"):
        StatNN(**options)
