"""Each rule commutes with permutations of hidden neurons."""

import pytest
import torch

from ngopt.graph.incidence import incidences
from ngopt.graph.permute import permute, random_permutations
from ngopt.rules import graph_inputs
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.hand_built import graph, layout, spaces
from tests.rules.rule_inputs import (
    GRAPHS,
    MLP,
    draw,
    randomize,
    relative_error,
    trajectory,
    zoo_graph,
)
from tests.rules.table import RULES, every_rule_with
from tests.zoo import ZOO

STEPS = 2
PRECISION = {torch.float64: 1e-10, torch.float32: 1e-5}
ALWAYS = (
    "mlp",
    "resnet",
    "grouped",
    "lstm",
    "vit",
    "hf_gpt2",
)
"""Models that stand for their kind; the whole zoo takes minutes."""


def trajectory_error(rule, described, dtype):
    """How far updates in the permuted world ever are from the permuted updates; NaN if any is."""
    parameters = draw(described, 0, dtype)
    gradients = [draw(described, step + 1, dtype) for step in range(STEPS)]
    permutations = random_permutations(described, 0)
    here, _ = trajectory(rule, described, parameters, gradients)
    there, _ = trajectory(
        rule,
        described,
        permute(described, parameters, permutations),
        [permute(described, grads, permutations) for grads in gradients],
    )
    errors = [
        relative_error(found, permute(described, expected, permutations))
        for found, expected in zip(there, here, strict=True)
    ]
    return torch.tensor(errors, dtype=torch.float64).max().item()


CASES = {f"{name}-{dtype}": (GRAPHS[name], dtype) for name in GRAPHS for dtype in PRECISION}


@every_rule_with("case", CASES, each=2)
def test_equivariant(make, case):
    described, dtype = case
    assert trajectory_error(randomize(make()), described, dtype) <= PRECISION[dtype]


@every_rule_with("name", {name: name for name in ALWAYS}, each=1)
def test_equivariant_on_models_of_every_kind(make, name):
    assert trajectory_error(randomize(make()), zoo_graph(name), torch.float64) <= 1e-10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", ZOO)
def test_equivariant_on_the_zoo(name):
    for dtype, precision in PRECISION.items():
        errors = {
            rule: trajectory_error(randomize(make()), zoo_graph(name), dtype)
            for rule, make in RULES.items()
        }
        assert {rule: error for rule, error in errors.items() if not error <= precision} == {}


@pytest.mark.parametrize("seed", range(3))
def test_equivariant_where_gradients_have_a_low_rank(seed):
    # What is orthogonalized amplifies rounding errors where a matrix has hardly anything.
    s = spaces(x=24, h=32, y=5)
    described = graph(s, [layout(s, "in", ["h", "x"], "oi"), layout(s, "out", ["y", "h"], "oi")])
    rule, parameters = randomize(MatrixGNN(), seed), draw(described, 0, torch.float32)
    gradients = {
        name: torch.randn(len(tensor), 2) @ torch.randn(2, tensor.shape[1])
        for name, tensor in parameters.items()
    }
    permutations = random_permutations(described, seed)
    (here,), _ = trajectory(rule, described, parameters, [gradients])
    permuted = [permute(described, tensors, permutations) for tensors in (parameters, gradients)]
    (there,), _ = trajectory(rule, described, permuted[0], [permuted[1]])
    assert relative_error(there, permute(described, here, permutations)) <= 1e-5


@pytest.mark.parametrize("left_out", ["parameters", "gradients"])
def test_everything_it_sees_must_be_permuted(left_out):
    rule = randomize(MatrixGNN())
    given = {"parameters": draw(MLP, 0), "gradients": draw(MLP, 1)}
    permuted = {name: permute(MLP, tensors, 0) for name, tensors in given.items()}
    permuted[left_out] = given[left_out]
    (update,), _ = trajectory(rule, MLP, given["parameters"], [given["gradients"]])
    (other,), _ = trajectory(rule, MLP, permuted["parameters"], [permuted["gradients"]])
    assert relative_error(other, permute(MLP, update, 0)) > 1e-3


@pytest.mark.parametrize("name", ["ng_gnn", "ng_gnn of the paper", "ng_t"])
def test_biases_that_read_the_wrong_nodes_are_noticed(name, monkeypatch):
    def from_the_first_node_on(graph, nodes, device):
        ends = incidences(graph, nodes, device)
        return [
            end if "in" in bundle.roles else end._replace(target=end.target - end.target.min())
            for bundle, end in zip(graph.bundles, ends, strict=True)
        ]

    rule = randomize(RULES[name]())
    assert trajectory_error(rule, MLP, torch.float64) <= 1e-10
    monkeypatch.setattr(graph_inputs, "incidences", from_the_first_node_on)
    assert trajectory_error(rule, MLP, torch.float64) > 1e-4
