import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.moments import init_moments, update_moments
from ngopt.features.scale import rms
from ngopt.features.tensors import TENSOR_FEATURES
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.matrix_gnn import MatrixGNN
from ngopt.rules.safe_recipe import SafeRecipe
from tests.rules.recipe_parts import parts_of, structures_of
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, warm
from tests.rules.untrained import untrained_update

every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def fresh(**options):
    return SafeRecipe(torch.Generator().manual_seed(0), **options)


def scenes(recipe, described):
    """Each part with the features of its bundle."""
    parts, _ = parts_of(recipe, described)
    return list(zip(parts, recipe.contexts(parts, structures_of(described, parts)), strict=True))


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
        part = parts_of(recipe, MLP)[0][0]
        arrays = tuple(layout.views(signal)[0] for signal in signals)
        found.append(
            recipe.features(type(part)(layout, part.bundle, arrays, state["step"], "w", 2))
        )
    torch.testing.assert_close(plain, scaled, rtol=1e-6, atol=1e-6)


@every_graph
@pytest.mark.parametrize("orthogonal", [0, 3])
def test_fresh_and_silent_it_takes_the_untrained_step(orthogonal, described):
    recipe = fresh(skeleton={"orthogonal": orthogonal})
    for part, context in scenes(recipe, described):
        weight, gradient, *moments = part.signals
        update = recipe.update(part, torch.zeros_like(weight)[..., None], context)
        step = part.step.item()
        seen = part.layout, part.bundle, weight, gradient, moments, step, part.layers
        expected = untrained_update(recipe.skeleton, *seen, share=1.0)
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
    skeleton = {"orthogonal": orthogonal, "evidence_least": 1.0}
    rule = randomize(MatrixGNN(skeleton=skeleton))
    rule.head = _Total()
    recipe = fresh(skeleton=skeleton)
    recipe.scale[0].load_state_dict(rule.scale[0].state_dict())
    for own, other in zip(recipe.scale[2].parameters(), rule.scale[2].parameters(), strict=True):
        other.data[..., 1:] = 0.0  # the recipe decays no weights
        own.data.copy_(other[..., :1])
    update, _ = rule(*warm(rule, described, steps=2), described)
    whole = {name: layout.views(update[name]) for name, layout in described.parameters.items()}
    for part, context in scenes(recipe, described):
        found = recipe.update(part, weigh(recipe.features(part))[..., None], context)
        expected = whole[part.name][part.layout.bundles.index(part.bundle)]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@every_graph
def test_outputs_turn_the_direction_within_bounds_and_keep_its_size(described):
    recipe = fresh()
    for part, context in scenes(recipe, described):
        zeros = torch.zeros(*part.bundle.shape, 1, dtype=torch.float64)
        base = recipe.update(part, zeros, context)
        turned = recipe.update(part, 1e3 * torch.randn_like(zeros), context)
        torch.testing.assert_close(rms(turned), rms(base))
        cosine = (turned * base).mean() / (rms(turned) * rms(base))
        assert cosine >= (1 - recipe.skeleton.trust**2) ** 0.5 - 1e-9
        assert base.numel() == 1 or not torch.allclose(turned, base)


def test_size_is_learned_from_the_bundle_within_bounds():
    recipe = randomize(fresh(skeleton={"scale_bound": 0.5}), size=10.0)
    factors = []
    for part, context in scenes(recipe, MLP):
        zeros = torch.zeros(*part.bundle.shape, 1, dtype=torch.float64)
        plain = fresh().update(part, zeros, context)
        factors.append((rms(recipe.update(part, zeros, context)) / rms(plain)).log().item())
    assert max(map(abs, factors)) <= 0.5 + 1e-9
    assert max(factors) - min(factors) > 0.1


def test_options():
    recipe = fresh(hidden=3, momentum_dtype="float32", skeleton={"trust": 0.5})
    assert recipe.config["hidden"] == recipe.scale[0].weight.shape[1] == 3
    assert recipe.config["momentum_dtype"] == "float32"
    assert recipe.skeleton.trust == recipe.config["skeleton"]["trust"] == 0.5


@pytest.mark.parametrize(
    "options", [{"momentum_dtype": "int8"}, {"skeleton": {"trust": 2}}], ids=str
)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError):
        fresh(**options)
