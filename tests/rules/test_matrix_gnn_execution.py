"""Where and how the rule runs: devices, vmap, compilation, memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ngopt.features import blocks
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, warm, zoo_graph


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


class _Largest(TorchDispatchMode):
    """Remembers the most entries of any tensor computed."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self.entries = max(self.entries, *sizes, 0)
        return result


BUNDLES = {**GRAPHS, **{name: zoo_graph(name) for name in ("grouped", "lstm")}}


@pytest.mark.parametrize("described", BUNDLES.values(), ids=BUNDLES)
@pytest.mark.parametrize("skeleton", [{"orthogonal": 3}, {"orthogonal": 0}], ids=str)
def test_a_bundle_in_blocks_is_the_whole_bundle(skeleton, described, monkeypatch):
    rule = randomize(MatrixGNN(skeleton=skeleton))
    arguments = warm(rule, described)
    with torch.no_grad():
        update, state = rule(*arguments, described)
    monkeypatch.setattr(blocks, "CPU_ENTRIES", 12)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            divided, new = rule(*arguments, described)
        assert relative_error({n: t.detach() for n, t in divided.items()}, update) < 1e-10
        assert tree_leaves(tree_map(torch.equal, new, state)) == [True] * len(tree_leaves(state))


@pytest.mark.parametrize("taps", [1, 3])
def test_no_tensor_is_larger_than_a_parameter_that_is_not_small(taps):
    s = spaces(x=160, h=120)
    described = graph(s, [layout(s, "w", ["h", "x", taps], "oit"), layout(s, "b", ["h"], "o")])
    rule = randomize(MatrixGNN())
    arguments = warm(rule, described, torch.float32)
    with _Largest() as largest:
        update, _ = rule(*arguments, described)
        sum(tensor.sum() for tensor in update.values()).backward()
    assert largest.entries == 160 * 120 * taps
