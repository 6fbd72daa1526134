import inspect

import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.positions import POSITIONS
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.ff import FF
from ngopt.rules.network_rule import NetworkRule
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, trajectory
from tests.rules.table import RULES

NETWORKS = {name: make for name, make in RULES.items() if isinstance(make(), NetworkRule)}


class Tally(NetworkRule):
    """Says how many steps a parameter has had, which it counts itself; keeps all it was shown."""

    def __init__(self, **options):
        super().__init__(recipe={"name": "paper", "magnitude": 0.0}, **options)
        self.graph_inputs = []

    @property
    def config(self):
        return {}

    def begin_memory(self, parameter, layout):
        return {"tally": torch.zeros(len(layout.bundles))}

    def network(self, graph_inputs):
        self.graph_inputs.append(graph_inputs)
        tally = {
            inputs.name: graph_inputs.memory[inputs.name]["tally"] + 1
            for inputs in graph_inputs.bundles
        }
        outputs = [
            tally[inputs.name][0] * torch.ones(*inputs.bundle.shape, self.recipe.outputs)
            for inputs in graph_inputs.bundles
        ]
        return outputs, {name: {"tally": count} for name, count in tally.items()}


def test_says_what_its_network_is():
    assert inspect.isabstract(NetworkRule)
    assert NetworkRule.__abstractmethods__ == {"config", "network"}


def test_memory_is_kept_per_parameter():
    rule = Tally()
    parameters = draw(MLP, 0)
    only = {"0.weight": draw(MLP, 1)["0.weight"]}
    updates, state = trajectory(rule, MLP, parameters, [draw(MLP, 1), draw(MLP, 2)])
    assert all((tensor == 2).all() for tensor in updates[1].values())
    assert all(tensors["tally"] == 2 for tensors in state.values())
    update, after = rule(parameters, only, state, MLP)
    assert (update["0.weight"] == 3).all()
    assert after["0.weight"]["tally"] == 3
    assert state["0.weight"]["tally"] == 2
    assert after["0.weight"]["step"] == 3


def test_memory_may_depend_on_the_layout():
    described = GRAPHS["attention_block"]
    state = Tally().init_state(draw(described, 0), described)
    assert state["qkv.weight"]["tally"].shape == (3,)
    assert state["up.weight"]["tally"].shape == (1,)


def test_tied_parameters_go_by_the_name_that_the_caller_uses():
    described = GRAPHS["attention_block"]
    tensors = {"head.weight": draw(described, 0)["embedding.weight"]}
    rule = Tally()
    updates, state = trajectory(rule, described, tensors, [tensors])
    assert set(updates[0]) == set(state) == set(rule.graph_inputs[0].memory) == {"head.weight"}


@pytest.mark.parametrize("other", [{"dtype": torch.float64}, {"device": "meta"}], ids=str)
def test_what_differs_in_dtype_or_device_does_not_meet(other):
    rule = Tally()
    moved = {"2.weight", "2.bias"}
    parameters = {
        name: tensor.to(**other) if name in moved else tensor
        for name, tensor in draw(MLP, 0, torch.float32).items()
    }
    updates, _ = rule(parameters, parameters, rule.init_state(parameters, MLP), MLP)
    seen = [{inputs.name for inputs in graph_inputs.bundles} for graph_inputs in rule.graph_inputs]
    assert seen == [set(parameters) - moved, moved]
    for graph_inputs in rule.graph_inputs:
        like = parameters[graph_inputs.bundles[0].name]
        given = (
            graph_inputs.context,
            graph_inputs.positions,
            *graph_inputs.features,
            *graph_inputs.taps,
            *graph_inputs.entry_features(),
        )
        assert {(t.dtype, t.device) for t in given} == {(like.dtype, like.device)}
    assert {(n, t.dtype, t.device) for n, t in updates.items()} == {
        (n, t.dtype, t.device) for n, t in parameters.items()
    }


def test_empty_parameters_are_not_shown_but_have_an_update():
    described = NeuralGraph.per_tensor({"none": (0, 3)})
    rule = Tally()
    tensors = {"none": torch.zeros(0, 3)}
    (update,), state = trajectory(rule, described, tensors, [tensors])
    assert update["none"].shape == (0, 3)
    assert state["none"]["step"] == 1
    assert not rule.graph_inputs


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_positions_can_be_switched_one_by_one(make):
    described, rule = GRAPHS["residual_convnet"], make()

    def update(item):
        return trajectory(randomize(item), described, draw(described, 0), [draw(described, 1)])[0][
            0
        ]

    expected = update(rule)
    shapes = {name: theta.shape for name, theta in rule.state_dict().items()}
    for left_out in POSITIONS:
        shown = [name for name in rule.config["positions"] if name != left_out]
        less = type(rule)(**{**rule.config, "positions": shown})
        assert {name: theta.shape for name, theta in less.state_dict().items()} == shapes
        assert relative_error(update(less), expected) > 1e-6, left_out


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("fancy", "fancy"), ({"name": "fancy"}, "fancy"), ({"p": 3}, None)],
    ids=str,
)
def test_unknown_recipes(recipe, name):
    with pytest.raises(RuleError, match=f"(?s)no recipe {name!r}.*one of: safe, paper"):
        FF(recipe=recipe)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"name": "safe", "hiden": 3}, "'safe' has no 'hiden'(?s:.*)hidden, momentum_dtype"),
        ({"name": "paper", "generator": 3}, "'paper' has no 'generator'(?s:.*)magnitude, p"),
        ({"name": "safe", "base_update": {"trus": 0.1}}, "base update has no 'trus'(?s:.*)trust"),
    ],
)
def test_unknown_options(recipe, message):
    with pytest.raises(RuleError, match=message):
        FF(recipe=recipe)


def test_unknown_positions():
    with pytest.raises(RuleError, match="no positional features 'height'"):
        FF(positions=["height"])


def test_theta_is_drawn_from_the_seed():
    first, same, other = (FF(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["net.layers.0.weight"], other["net.layers.0.weight"])
    assert not torch.equal(first["recipe.scale.0.weight"], other["recipe.scale.0.weight"])


def test_shared_config():
    rule = FF(recipe="paper", positions=("kind", "depth"), seed=4)
    assert rule.shared_config == {
        "recipe": {"name": "paper", "magnitude": 0.01, "p": 10.0},
        "positions": ["depth", "kind"],
        "seed": 4,
    }
