import pytest
import torch

from ngopt.features.positions import Positions
from ngopt.features.scale import log_sign
from ngopt.optim.update import Options, init_state, update
from ngopt.rules.ff import FF
from ngopt.rules.paper_recipe import DECAYS, PaperRecipe
from tests.rules.recipe_inputs import bundle_inputs_of, structures_of
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize


def drawn(**options):
    return PaperRecipe(torch.Generator().manual_seed(0), **options)


def test_signals_are_weight_gradient_and_momenta():
    recipe = drawn()
    parameter = torch.randn(3, dtype=torch.float64)
    gradients = torch.randn(4, 3, dtype=torch.float64)
    state = recipe.begin(parameter)
    for gradient in gradients:
        state, (weight, slope, *momenta) = recipe.advance(parameter, gradient, state)
    assert torch.equal(weight, parameter)
    assert torch.equal(slope, gradients[-1])
    for decay, momentum in zip(DECAYS, momenta, strict=True):
        powers = torch.tensor([decay**k for k in (3, 2, 1, 0)], dtype=torch.float64)
        torch.testing.assert_close(momentum, powers @ gradients)


@pytest.mark.parametrize("p", [10.0, 5.0])
def test_features_are_logarithms_and_signs(p):
    recipe = drawn(p=p)
    for inputs in bundle_inputs_of(recipe, GRAPHS["residual_convnet"])[0]:
        features = recipe.features(inputs).unflatten(-1, (2 + len(DECAYS), 2))
        for number, signal in enumerate(inputs.signals):
            assert torch.equal(features[..., number, :], log_sign(signal, p))


def test_context_is_what_the_graph_determines():
    recipe = drawn()
    bundles, _ = bundle_inputs_of(recipe, MLP)
    structures = structures_of(MLP, bundles)
    assert recipe.contexts(bundles, structures).tolist() == structures


@pytest.mark.parametrize("magnitude", [0.01, 1.0])
def test_formula_of_the_step(magnitude):
    recipe = drawn(magnitude=magnitude)
    inputs = bundle_inputs_of(recipe, MLP)[0][0]
    outputs = torch.randn(*inputs.bundle.shape, 2, dtype=torch.float64)
    expected = outputs[..., 0] * torch.exp(magnitude * outputs[..., 1])
    torch.testing.assert_close(recipe.update(inputs, outputs, torch.zeros(())), expected)


def test_step_of_the_paper():
    rule = randomize(FF(recipe="paper", hidden=5, layers=1)).double()
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    state = init_state(parameters, MLP, rule)
    options = dict.fromkeys(parameters, Options(lr=0.01))
    moved = update(parameters, gradients, state, MLP, rule, options).params
    first, second = rule.net.layers
    for name, layout in MLP.parameters.items():
        w, g = parameters[name], gradients[name]
        features = torch.stack([w, *[g] * (1 + len(DECAYS))], -1)
        size, sign = log_sign(features).unbind(-1)
        numbers = torch.tensor(Positions().structure(MLP, layout, layout.bundles[0])).double()
        known = torch.cat([torch.zeros(2).double(), numbers]).expand(*w.shape, -1)
        inputs = torch.cat([torch.stack([size, sign], -1).flatten(-2), known], -1)
        hidden = torch.nn.functional.silu(inputs @ first.weight + first.bias)
        a, b = (hidden @ second.weight + second.bias).unbind(-1)
        torch.testing.assert_close(
            moved[name], w - 0.01 * a * torch.exp(0.01 * b), rtol=1e-6, atol=0
        )


def test_options():
    recipe = drawn(magnitude=1, p=3)
    assert recipe.config == {"name": "paper", "magnitude": 1.0, "p": 3.0}
    assert not recipe.state_dict()
