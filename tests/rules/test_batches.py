"""Many models at once: each moves as it would alone."""

import pytest
import torch
from torch.utils._pytree import tree_map

from ngopt.optim.joined_graph import join, rename_parameters
from tests.rules.rule_inputs import GRAPHS, draw, randomize, relative_error, trajectory, warm
from tests.rules.table import RULES, every_rule_with

MODELS = 2
WHOLE_GRAPH = {
    "across_lstm": "it steps from tensor to tensor by their depths",
    "across_lstm of the paper": "the same",
    "dws": "one of its terms is the mean over all bundles",
    "nfn": "the same",
    "nfn of hidden neurons": "the same",
}
"""Rules that look at all that is trained together as one, and why."""


@every_rule_with("name", {n: n for n in ("residual_convnet", "attention_block")}, each=1)
def test_vmap_over_models_is_a_loop(make, name):
    rule, described = randomize(make()), GRAPHS[name]
    models = [warm(rule, described, steps=seed + 1) for seed in range(MODELS)]
    stacked = tree_map(lambda *tensors: torch.stack(tensors), *models)
    with torch.no_grad():
        together = torch.func.vmap(lambda arguments: rule(*arguments, described))(stacked)
        for number, arguments in enumerate(models):
            expected = rule(*arguments, described)
            found = tree_map(lambda tensor, n=number: tensor[n], together)
            assert relative_error(found[0], expected[0]) <= 1e-12
            torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-12)


def named(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", RULES)
def test_models_side_by_side_do_not_hear_of_each_other(name):
    rule = randomize(RULES[name]())
    models = {"a:": GRAPHS["mlp"], "b:": GRAPHS["attention_block"]}
    both = join(
        *(rename_parameters(model, prefix.__add__, prefix) for prefix, model in models.items())
    )
    parameters, *gradients = (
        named("a:", draw(models["a:"], seed)) | named("b:", draw(models["b:"], seed))
        for seed in range(3)
    )
    together, _ = trajectory(rule, both, parameters, gradients)
    errors = []
    for prefix, model in models.items():
        alone, _ = trajectory(rule, model, draw(model, 0), [draw(model, 1), draw(model, 2)])
        for found, expected in zip(together, alone, strict=True):
            expected = named(prefix, expected)
            errors.append(relative_error(found, expected))
    assert all(error <= 1e-12 for error in errors) == (name not in WHOLE_GRAPH)
