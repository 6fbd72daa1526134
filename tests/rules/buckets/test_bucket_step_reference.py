"""Buckets do what is done tensor by tensor, on the zoo and with all options."""

from itertools import cycle

import pytest
import torch

from ngopt.features.scale import rms
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.matrix_gnn import MatrixGNN
from tests.rules.reference import step
from tests.rules.rule_inputs import SOME, draw, randomize, relative_error, zoo_graph
from tests.zoo import ZOO

OPTIONS = {
    "default": {},
    "looks now and then": {"context_every": 3, "square_dtype": "bfloat16"},
    "sizes from the graph": {"graph_sizes": True, "rounds": 3, "width": 5},
    "learned weights of slow momenta": {
        "learned_slow": True,
        "base_update": {"late_slow": 2.0, "late_slow_reference": 3.0},
    },
    "sizes without hidden units between": {"linear_sizes": True, "context_every": 3},
    "graph off": {"graph_context": False, "context_every": 2},
    "no statistics": {"neuron_statistics": False, "rounds": 1},
    "Adam's direction": {"base_update": {"orthogonal": 0, "nesterov": 0.0}},
    "sizes free of weights": {"base_update": {"weight_reference": 0.0, "equal_rows": False}},
}
LONE = NeuralGraph.per_tensor(
    {"a": (3,), "b": (2, 3), "c": (2, 3), "d": (), "e": (0, 4), "f": (3,)}
)


def check(rule, described, steps=3, made=0):
    parameters = draw(described, 0)
    state = rule.init_state(parameters, described)
    for own in state.values():
        own["step"] += made
    with torch.no_grad():
        for number in range(steps):
            # Each entry differs by its own, so that no tensor is next to zero.
            gradients = {
                name: g + 0.5 * rms(g) if g.numel() else g
                for name, g in draw(described, number + 1).items()
            }
            expected, evidence = step(rule, parameters, gradients, state, described)
            updates, state = rule(parameters, gradients, state, described)
            assert relative_error(updates, expected) < 1e-9
            for name, share in evidence.items():
                torch.testing.assert_close(state[name]["evidence"], share)
            parameters = {n: p - 0.01 * updates[n] for n, p in parameters.items()}


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", [*ZOO][::2])  # loops are held to buckets on all of it
def test_as_tensor_by_tensor_on_the_zoo(name):
    check(randomize(MatrixGNN(width=4, graph_sizes=True)), zoo_graph(name), 2)


@pytest.mark.parametrize(("options", "name"), [*zip(OPTIONS, cycle(SOME[:3]))])
def test_with_all_options(options, name):
    for described in (zoo_graph(name), LONE):
        check(randomize(MatrixGNN(**OPTIONS[options])), described)


def test_with_a_growing_window_of_the_slow_momentum():
    rule = randomize(MatrixGNN(base_update={"slow_power": 0.5}))
    check(rule, zoo_graph(SOME[0]), made=1000)
