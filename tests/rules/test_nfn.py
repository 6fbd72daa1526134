import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.permute import permute, random_permutations
from ngopt.rules.nfn import NFN
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, trajectory

ORDER = {"x": torch.tensor([2, 0, 3, 1]), "y": torch.tensor([1, 2, 0])}
HIDDEN = random_permutations(MLP, 0)


def error(rule, permutations):
    """How far an update in the permuted world is from the permuted update."""
    randomize(rule)
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    (here,), _ = trajectory(rule, MLP, parameters, [gradients])
    (there,), _ = trajectory(
        rule,
        MLP,
        permute(MLP, parameters, permutations),
        [permute(MLP, gradients, permutations)],
    )
    return relative_error(there, permute(MLP, here, permutations))


@pytest.mark.parametrize("recipe", ["safe", "paper"])
def test_np_without_the_embedding_cannot_tell_inputs_or_outputs_apart(recipe):
    rule = NFN("np", width=4, io_embedding=False, recipe=recipe)
    assert error(rule, {**ORDER, **HIDDEN}) < 1e-12


@pytest.mark.parametrize("space", ORDER)
@pytest.mark.parametrize(("variant", "io_embedding"), [("np", True), ("hnp", False)])
def test_otherwise_inputs_and_outputs_are_not_alike_but_hidden_neurons_are(
    space, variant, io_embedding
):
    rule = NFN(variant, width=4, io_embedding=io_embedding)
    assert error(rule, {space: ORDER[space]}) > 1e-3
    assert error(rule, HIDDEN) < 1e-12


@pytest.mark.parametrize("variant", ["np", "hnp"])
def test_every_tensor_hears_of_every_other(variant):
    rule = randomize(NFN(variant, width=4, layers=1, recipe="paper"))
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    turned = {**gradients, "4.bias": gradients["4.bias"] + 1}
    (before,), _ = trajectory(rule, MLP, parameters, [gradients])
    (after,), _ = trajectory(rule, MLP, parameters, [turned])
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("variant", ["np", "hnp"])
def test_lone_tensors_of_any_size_use_the_same_theta(variant):
    described = NeuralGraph.per_tensor({"w": (3, 40), "v": (1, 2, 3), "b": (17,), "s": ()})
    rule = randomize(NFN(variant, width=4))
    (update,), _ = trajectory(rule, described, draw(described, 0), [draw(described, 1)])
    for name, tensor in update.items():
        assert tensor.shape == described.layout(name).shape
        assert tensor.isfinite().all()


@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_a_fresh_one_of_the_paper_takes_steps_of_order_one(described):
    rule = NFN("hnp", recipe="paper", layers=6)
    (update,), _ = trajectory(rule, described, draw(described, 0), [draw(described, 1)])
    sizes = [tensor.abs().max() for tensor in update.values()]
    assert min(sizes) > 1e-3
    assert max(sizes) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "nph"}, "no variant 'nph'.*\n.*np, hnp"),
        ({"width": 0}, "NFN .*width=0"),
        ({"layers": 0}, "NFN .*layers=0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(RuleError, match=message):
        NFN(**options)
