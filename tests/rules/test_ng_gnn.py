import dataclasses

import pytest
import torch

from ngopt.errors import RuleError
from ngopt.features.positions import POSITIONS
from ngopt.graph.incidence import Incidence
from ngopt.graph.permute import permute, random_permutations
from ngopt.rules.ng_gnn import NGGNN
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import GRAPHS, MLP, draw, randomize, relative_error, trajectory, warm

CONVNET = GRAPHS["residual_convnet"]
DEPTH = 6
read = NGGNN.read


def chain():
    """Weights one after the other, without biases: each can be told from its place."""
    names = ["x", *(f"h{k}" for k in range(1, DEPTH)), "y"]
    known = spaces(**dict.fromkeys(names, 3))
    return graph(
        known,
        [
            layout(known, str(k), [names[k + 1], names[k]], "oi", kind="linear", depth=k / DEPTH)
            for k in range(DEPTH)
        ],
    )


def changed(rule, described, where):
    """Entries of each update that are others when one entry of one gradient is another."""
    parameters, gradients = draw(described, 0), draw(described, 1)
    other = {name: gradient.clone() for name, gradient in gradients.items()}
    other[where][0, 0] += 1
    (first,), _ = trajectory(rule, described, parameters, [gradients])
    (second,), _ = trajectory(rule, described, parameters, [other])
    return {name: (first[name] - second[name]).abs() > 1e-9 for name in first}


# The features of the paper are those of an entry alone: what gets about is a message.


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("where", [0, DEPTH - 1])
def test_news_travel_as_many_hops_as_there_are_layers_and_both_ways(layers, where):
    rule = randomize(NGGNN(width=8, layers=layers, recipe="paper"))
    found = changed(rule, chain(), str(where))
    assert {int(name) for name, entries in found.items() if entries.any()} == {
        k for k in range(DEPTH) if abs(k - where) <= layers
    }


@pytest.mark.parametrize("edge_updates", [True, False])
def test_one_layer_tells_those_that_share_a_neuron(edge_updates):
    rule = randomize(NGGNN(width=8, layers=1, recipe="paper", edge_updates=edge_updates))
    found = changed(rule, chain(), "2")
    first_row, first_column = (torch.zeros(3, 3, dtype=torch.bool) for _ in range(2))
    first_row[0], first_column[:, 0] = True, True
    assert torch.equal(found["1"], first_row)
    assert torch.equal(found["2"], first_row | first_column)
    assert torch.equal(found["3"], first_column)


def test_without_reverse_messages_go_with_the_edges_only():
    rule = randomize(NGGNN(width=8, layers=3, recipe="paper", reverse=False))
    for where, expected in [("0", {"0", "1", "2", "3"}), ("4", {"4", "5"})]:
        found = changed(rule, chain(), where)
        assert {name for name, entries in found.items() if entries.any()} == expected


def test_taps_of_a_kernel_are_told_from_each_other():
    rule = randomize(NGGNN(width=8, layers=1))
    same = {name: torch.ones_like(tensor) for name, tensor in draw(CONVNET, 0).items()}
    (update,), _ = trajectory(rule, CONVNET, same, [same])
    kernel = update["conv_a.weight"][0, 0].flatten()
    assert (kernel[0] - kernel[1:]).abs().min() > 1e-4


def errors_of_equivariance(rule, described):
    """For each tensor of updates, the largest error, in units of its largest entry."""
    permutations = random_permutations(described, 0)
    tensors = [draw(described, seed) for seed in range(2)]
    (here,), _ = trajectory(rule, described, tensors[0], tensors[1:])
    (there,), _ = trajectory(
        rule,
        described,
        permute(described, tensors[0], permutations),
        [permute(described, tensors[1], permutations)],
    )
    return {
        name: relative_error({name: there[name]}, {name: expected})
        for name, expected in permute(described, here, permutations).items()
    }


def read_biases_at_the_wrong_nodes(self, graph_inputs, *rest):
    """Like published code: biases are read from the first node on, as if there were no inputs."""
    sets = [item for item in graph_inputs.nodes.sets if item.spaces]
    neurons = torch.cat([torch.arange(s.start, s.start + s.size) for s in sets])
    ends = tuple(
        end
        if "in" in inputs.bundle.roles
        else Incidence(neurons[torch.searchsorted(neurons, end.target) - sets[0].size], end.source)
        for inputs, end in zip(graph_inputs.bundles, graph_inputs.ends, strict=True)
    )
    return read(self, dataclasses.replace(graph_inputs, ends=ends), *rest)


@pytest.mark.parametrize("recipe", ["safe", "paper"])
def test_biases_read_at_the_wrong_nodes_are_caught(monkeypatch, recipe):
    rule = randomize(NGGNN(width=8, layers=2, recipe=recipe), seed=1)
    errors = errors_of_equivariance(rule, MLP)
    assert max(errors.values()) <= 1e-10
    monkeypatch.setattr(NGGNN, "read", read_biases_at_the_wrong_nodes)
    errors = errors_of_equivariance(rule, MLP)
    assert {name for name, error in errors.items() if error > 1e-5} == {
        name for name in errors if name.endswith("bias")
    }
    assert min(error for error in errors.values() if error > 1e-5) > 1e-3


def test_parameters_without_a_gradient_have_no_edges():
    rule = randomize(NGGNN(width=8, layers=2))
    parameters, gradients, state = warm(rule, MLP)
    some = {name: gradients[name] for name in ("2.weight", "4.bias")}
    with torch.no_grad():
        update, _ = rule(parameters, some, {name: state[name] for name in some}, MLP)
        every, _ = rule(parameters, gradients, state, MLP)
    assert set(update) == set(some)
    assert all(u.isfinite().all() for u in update.values())
    assert relative_error(update, {name: every[name] for name in some}) > 1e-3


@pytest.mark.parametrize("left_out", POSITIONS)
def test_positions_can_be_left_out(left_out):
    options = {"width": 8, "layers": 1, "recipe": "paper"}
    rule = randomize(NGGNN(**options))
    blind = NGGNN(**options, positions=[name for name in POSITIONS if name != left_out])
    blind.load_state_dict(rule.state_dict())
    inputs = warm(rule, CONVNET)
    with torch.no_grad():
        update, _ = rule(*inputs, CONVNET)
        other, _ = blind(*inputs, CONVNET)
    assert relative_error(other, update) > 1e-4


@pytest.mark.parametrize(
    "option",
    [
        {"aggregators": ["mean"]},
        {"scalers": False},
        {"reverse": False},
        {"edge_updates": False},
        {"recurrent": True},
    ],
    ids=str,
)
def test_options_take_parts_of_theta_away_or_add_some(option):
    full, other = NGGNN(), NGGNN(**option)
    assert sum(p.numel() for p in other.parameters()) != sum(p.numel() for p in full.parameters())
    assert {key: other.config[key] for key in option} == option


def test_both_backends_have_the_same_theta():
    dense, pyg = NGGNN(), NGGNN(backend="pyg")
    assert pyg.config == {**dense.config, "backend": "pyg"}
    torch.testing.assert_close(dict(pyg.state_dict()), dict(dense.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"layers": 0}, "layers=0"),
        ({"head_layers": -1}, "head_layers=-1"),
        ({"aggregators": []}, r"aggregate messages by \[\]"),
        ({"aggregators": ["mean", "median"]}, "each once"),
        ({"aggregators": ["mean", "mean"]}, "each once"),
        ({"backend": "sparse"}, "no backend 'sparse'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(option, message):
    with pytest.raises(RuleError, match=message):
        NGGNN(**option)
