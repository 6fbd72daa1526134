import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.bundle_features import TENSOR_FEATURES
from ngopt.features.moments import init_moments, update_moments
from ngopt.features.scale import rms
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.safe_recipe import SafeRecipe
from tests.rules.recipe_inputs import bundle_inputs_of, structures_of
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, warm
from tests.rules.untrained import untrained_update

every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def fresh(**options):
    return SafeRecipe(torch.Generator().manual_seed(0), **options)


def bundles_with_context(recipe, described):
    """The inputs of each bundle, with the features of its bundle."""
    bundles, _ = bundle_inputs_of(recipe, described)
    return list(
        zip(bundles, recipe.contexts(bundles, structures_of(described, bundles)), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum_dtype", ["bfloat16", "float32"])
def test_state_and_signals_are_moments(momentum_dtype, dtype):
    parameter, gradient = torch.randn(2, 3).to(dtype), torch.randn(2, 3).to(dtype)
    recipe = fresh(momentum_dtype=momentum_dtype)
    state = recipe.begin(parameter)
    torch.testing.assert_close(state, init_moments(parameter, momentum_dtype), rtol=0, atol=0)
    new, (weight, slope, *moments) = recipe.advance(parameter, gradient, state)
    expected, expected_moments = update_moments(state, gradient)
    torch.testing.assert_close(new, expected, rtol=0, atol=0)
    torch.testing.assert_close(tuple(moments), tuple(expected_moments), rtol=0, atol=0)
    assert torch.equal(weight, parameter.float())
    assert torch.equal(slope, gradient.float())


def test_features_are_free_of_the_scale_of_gradient_and_weight():
    recipe = fresh()
    plain, scaled = [], []
    for found, factor in ((plain, 1.0), (scaled, 1e3)):
        parameter = factor * draw(MLP, 0)["0.weight"]
        state = recipe.begin(parameter)
        for step in (1, 2):
            gradient = factor * draw(MLP, step)["0.weight"]
            state, signals = recipe.advance(parameter, gradient, state)
        layout = MLP.layout("0.weight")
        inputs = bundle_inputs_of(recipe, MLP)[0][0]
        arrays = tuple(layout.views(signal)[0] for signal in signals)
        found.append(
            recipe.features(type(inputs)(layout, inputs.bundle, arrays, state["step"], "w", 2))
        )
    torch.testing.assert_close(plain, scaled, rtol=1e-6, atol=1e-6)


@every_graph
@pytest.mark.parametrize("orthogonal", [0, 3])
def test_fresh_and_silent_it_takes_the_untrained_step(orthogonal, described):
    recipe = fresh(base_update={"orthogonal": orthogonal})
    for inputs, context in bundles_with_context(recipe, described):
        weight, gradient, *moments = inputs.signals
        update = recipe.update(inputs, torch.zeros_like(weight)[..., None], context)
        step = inputs.step.item()
        seen = inputs.layout, inputs.bundle, weight, gradient, moments, step, inputs.layers
        expected = untrained_update(recipe.base_update, *seen, share=1.0)
        torch.testing.assert_close(update, expected, rtol=1e-6, atol=2e-6)


class _Total(EntryHead):
    """A network of each entry that adds its features up, and asks nothing else."""

    def __init__(self):
        super().__init__(2, 16, TENSOR_FEATURES, torch.Generator())

    def forward(self, features, offsets):
        return weigh(features)


def weigh(features):
    return features @ torch.linspace(-1, 1, SafeRecipe.channels, dtype=features.dtype)


@every_graph
@pytest.mark.parametrize("orthogonal", [0, 3])
def test_the_default_rule_with_the_same_network_makes_the_same_step(orthogonal, described):
    # The recipe knows no evidence.
    base_update = {"orthogonal": orthogonal, "evidence_least": 1.0}
    rule = randomize(MatrixGNN(base_update=base_update))
    rule.head = _Total()
    recipe = fresh(base_update=base_update)
    recipe.scale[0].load_state_dict(rule.scale[0].state_dict())
    for own, other in zip(recipe.scale[2].parameters(), rule.scale[2].parameters(), strict=True):
        other.data[..., 1:] = 0.0  # the recipe decays no weights
        own.data.copy_(other[..., :1])
    update, _ = rule(*warm(rule, described, steps=2), described)
    whole = {name: layout.views(update[name]) for name, layout in described.parameters.items()}
    for inputs, context in bundles_with_context(recipe, described):
        found = recipe.update(inputs, weigh(recipe.features(inputs))[..., None], context)
        expected = whole[inputs.name][inputs.layout.bundles.index(inputs.bundle)]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@every_graph
def test_outputs_turn_the_direction_within_bounds_and_keep_its_size(described):
    recipe = fresh()
    for inputs, context in bundles_with_context(recipe, described):
        zeros = torch.zeros(*inputs.bundle.shape, 1, dtype=torch.float64)
        base = recipe.update(inputs, zeros, context)
        turned = recipe.update(inputs, 1e3 * torch.randn_like(zeros), context)
        torch.testing.assert_close(rms(turned), rms(base))
        cosine = (turned * base).mean() / (rms(turned) * rms(base))
        assert cosine >= (1 - recipe.base_update.trust**2) ** 0.5 - 1e-9
        assert base.numel() == 1 or not torch.allclose(turned, base)


def test_size_is_learned_from_the_bundle_within_bounds():
    recipe = randomize(fresh(base_update={"scale_bound": 0.5}), size=10.0)
    factors = []
    for inputs, context in bundles_with_context(recipe, MLP):
        zeros = torch.zeros(*inputs.bundle.shape, 1, dtype=torch.float64)
        plain = fresh().update(inputs, zeros, context)
        factors.append((rms(recipe.update(inputs, zeros, context)) / rms(plain)).log().item())
    assert max(map(abs, factors)) <= 0.5 + 1e-9
    assert max(factors) - min(factors) > 0.1


def test_options():
    recipe = fresh(hidden=3, momentum_dtype="float32", base_update={"trust": 0.5})
    assert recipe.config["hidden"] == recipe.scale[0].weight.shape[1] == 3
    assert recipe.config["momentum_dtype"] == "float32"
    assert recipe.base_update.trust == recipe.config["base_update"]["trust"] == 0.5


@pytest.mark.parametrize(
    "options", [{"momentum_dtype": "int8"}, {"base_update": {"trust": 2}}], ids=str
)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError):
        fresh(**options)


def test_whitening_is_refused():
    with pytest.raises(RuleError, match="only MatrixGNN"):
        fresh(base_update={"whitening_limit": 64})
