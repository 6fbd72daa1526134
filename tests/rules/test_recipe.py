"""What every recipe keeps to."""

import inspect
import json

import pytest
import torch

from ngopt.rules.network_rule import RECIPES
from ngopt.rules.recipe import Recipe
from tests.rules.recipe_inputs import bundle_inputs_of, structures_of
from tests.rules.rule_inputs import GRAPHS, draw, randomize

every_recipe = pytest.mark.parametrize("cls", RECIPES.values(), ids=RECIPES)
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def built(cls, **options):
    return randomize(cls(torch.Generator().manual_seed(0), **options))


def test_is_abstract():
    assert inspect.isabstract(Recipe)
    hooks = {"config", "begin", "advance", "features", "contexts", "update"}
    assert Recipe.__abstractmethods__ == hooks


@every_recipe
def test_config_names_and_builds_it_again(cls):
    recipe = cls(torch.Generator().manual_seed(3))
    config = json.loads(json.dumps(recipe.config))
    assert RECIPES[config.pop("name")] is cls
    again = cls(torch.Generator().manual_seed(3), **config)
    assert again.config == recipe.config
    theta, same = recipe.state_dict(), again.state_dict()
    assert theta.keys() == same.keys()
    assert all(torch.equal(theta[name], same[name]) for name in theta)


@every_dtype
@every_graph
@every_recipe
def test_shapes_are_as_announced(cls, described, dtype):
    recipe = built(cls)
    bundles, _ = bundle_inputs_of(recipe, described, dtype)
    context = recipe.contexts(bundles, structures_of(described, bundles))
    assert context.shape == (len(bundles), cls.context)
    assert context.dtype == dtype
    assert context.isfinite().all()
    for inputs, numbers in zip(bundles, context, strict=True):
        features = recipe.features(inputs)
        assert features.shape == (*inputs.bundle.shape, cls.channels)
        assert features.dtype == dtype
        assert features.isfinite().all()
        outputs = torch.randn(*inputs.bundle.shape, cls.outputs, dtype=dtype)
        update = recipe.update(inputs, outputs, numbers)
        assert (update.shape, update.dtype) == (inputs.bundle.shape, dtype)
        assert not torch.equal(update, recipe.update(inputs, -outputs, numbers))


@every_recipe
def test_the_state_counts_steps_and_is_left_as_it_was(cls):
    recipe = built(cls)
    parameter, gradient = torch.randn(2, 3), torch.randn(2, 3)
    state = recipe.begin(parameter)
    assert state["step"].shape == ()
    assert not any(tensor.any() for tensor in state.values())
    before = {name: tensor.clone() for name, tensor in state.items()}
    for number in (1, 2):
        new, signals = recipe.advance(parameter, gradient, state)
        assert all(torch.equal(state[name], before[name]) for name in state)
        assert {n: (t.shape, t.dtype) for n, t in new.items()} == {
            n: (t.shape, t.dtype) for n, t in state.items()
        }
        assert new["step"] == number
        assert all(signal.shape == parameter.shape for signal in signals)
        state, before = new, {name: tensor.clone() for name, tensor in new.items()}


@every_recipe
def test_half_precision_is_computed_in_single(cls):
    recipe = built(cls)
    parameter = torch.randn(3, dtype=torch.bfloat16)
    _, signals = recipe.advance(parameter, parameter, recipe.begin(parameter))
    assert {signal.dtype for signal in signals} == {torch.float32}


@every_recipe
def test_what_the_graph_determines_is_part_of_the_context(cls):
    described = GRAPHS["mlp"]
    recipe = built(cls)
    bundles, _ = bundle_inputs_of(recipe, described)
    structures = structures_of(described, bundles)
    context = recipe.contexts(bundles, structures)
    expected = torch.tensor(structures, dtype=torch.float64)
    torch.testing.assert_close(context[:, -expected.shape[1] :], expected)


@every_recipe
def test_parameters_do_not_lend_each_other_features(cls):
    described = GRAPHS["mlp"]
    recipe = built(cls)
    bundles, _ = bundle_inputs_of(recipe, described)
    structures = structures_of(described, bundles)
    together = recipe.contexts(bundles, structures)
    for number, inputs in enumerate(bundles):
        alone = recipe.contexts([inputs], [structures[number]])
        torch.testing.assert_close(alone[0], together[number], rtol=1e-12, atol=1e-12)
    assert draw(described, 0).keys() == {inputs.name for inputs in bundles}
