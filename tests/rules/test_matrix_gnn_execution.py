"""Where and how the rule runs: devices, vmap, compilation, memory."""

import pytest
import torch
from torch.utils._pytree import tree_map

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.rule_inputs import MLP, draw, randomize, warm


@pytest.mark.parametrize("where", [set(MLP.parameters), {"2.weight"}], ids=["all", "one"])
def test_follows_devices_and_waits_for_none(where):
    # The meta device has no values, so anything that reads one fails.
    rule = randomize(MatrixGNN())
    arguments = [
        {n: t.to("meta") if n in where else t for n, t in tensors.items()}
        for tensors in (draw(MLP, 0), draw(MLP, 1))
    ]
    update, state = rule(*arguments, rule.init_state(arguments[0], MLP), MLP)
    for name, tensor in arguments[0].items():
        assert update[name].device == state[name]["step"].device == tensor.device
        assert update[name].shape == tensor.shape


def test_vmap_over_models():
    rule = randomize(MatrixGNN())
    models = [warm(rule, MLP, steps=seed + 1) for seed in range(3)]
    stacked = tree_map(lambda *tensors: torch.stack(tensors), *models)
    with torch.no_grad():
        together = torch.vmap(lambda arguments: rule(*arguments, MLP))(stacked)
        for number, arguments in enumerate(models):
            one = tree_map(lambda tensor, n=number: tensor[n], together)
            torch.testing.assert_close(one, rule(*arguments, MLP), rtol=1e-10, atol=1e-12)


def test_compiles_into_one_graph():
    described = NeuralGraph.per_tensor({"w": (3, 2)})
    rule = randomize(MatrixGNN(rounds=1, hidden=1))
    arguments = warm(rule, described)
    compiled = torch.compile(rule, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*arguments, described), rule(*arguments, described))
