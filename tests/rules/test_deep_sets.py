import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.deep_sets import DeepSets
from tests.rules.rule_inputs import MLP, draw, randomize, relative_error, trajectory

LONE = NeuralGraph.per_tensor({"w": (4, 6)})


def test_all_entries_of_a_tensor_are_alike():
    rule = randomize(DeepSets(width=4, recipe="paper"))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))

    def moved(tensors):
        return {name: tensor.flatten()[order].view(4, 6) for name, tensor in tensors.items()}

    parameters, gradients = draw(LONE, 0), [draw(LONE, seed) for seed in (1, 2)]
    here, _ = trajectory(rule, LONE, parameters, gradients)
    there, _ = trajectory(rule, LONE, moved(parameters), [moved(grads) for grads in gradients])
    for update, expected in zip(there, here, strict=True):
        assert relative_error(update, moved(expected)) < 1e-12


def test_an_entry_is_heard_in_its_tensor_and_nowhere_else():
    rule = randomize(DeepSets(width=4, layers=1, recipe="paper"))
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    turned = gradients["2.weight"].clone()
    turned[0, 0] *= 3
    (before,), _ = trajectory(rule, MLP, parameters, [gradients])
    (after,), _ = trajectory(rule, MLP, parameters, [{**gradients, "2.weight": turned}])
    for name, update in after.items():
        changed = update != before[name]
        assert changed.all() if name == "2.weight" else not changed.any()


@pytest.mark.parametrize("options", [{"width": 0}, {"layers": -1}])
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"DeepSets .*\n.*at least 1"):
        DeepSets(**options)
