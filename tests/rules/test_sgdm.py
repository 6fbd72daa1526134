from functools import partial
from itertools import product

import pytest
import torch

from ngopt.errors import RuleError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.sgdm import SGDM
from tests.rules.against_torch import DTYPES, largest_error

GRID = [
    (momentum, dampening, nesterov, l2)
    for momentum, dampening, nesterov, l2 in product(
        (0.0, 0.9), (0.0, 0.3), (False, True), (0.0, 0.1)
    )
    if not nesterov or (momentum and not dampening)
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("momentum", "dampening", "nesterov", "l2"), GRID)
def test_equals_torch_on_the_gradients_of_a_convnet(momentum, dampening, nesterov, l2, dtype):
    options = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
    make = partial(torch.optim.SGD, **options, weight_decay=l2)
    error, moved = largest_error(SGDM(**options, l2=l2), make, dtype)
    assert error < 1e-6
    assert moved > 1e-3


def test_each_option_has_an_effect():
    described = NeuralGraph.per_tensor({"w": (2,)})
    gradients = [{"w": torch.tensor(g)} for g in ([1.0, 2.0], [3.0, -1.0])]
    options = [{}, {"momentum": 0.5}, {"dampening": 0.5}, {"nesterov": True}, {"l2": 0.5}]
    found = []
    for option in options:
        rule, params = SGDM(**option), {"w": torch.ones(2)}
        state = rule.init_state(params, described)
        for gradient in gradients:
            update, state = rule(params, gradient, state, described)
        found.append(tuple(update["w"].tolist()))
    assert len(set(found)) == len(options)


def test_keeps_no_buffer_without_momentum():
    described = NeuralGraph.per_tensor({"w": (2,)})
    params = {"w": torch.ones(2, dtype=torch.bfloat16)}
    assert SGDM(momentum=0.0).init_state(params, described)["w"].keys() == {"step"}
    assert SGDM().init_state(params, described)["w"]["momentum"].dtype == torch.float32


def test_config_builds_it_again():
    config = {"momentum": 0.5, "dampening": 0.25, "nesterov": False, "l2": 0.125}
    assert SGDM(**config).config == config


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"dampening": 1.5},
        {"l2": -1.0},
        {"nesterov": True, "momentum": 0.0},
        {"nesterov": True, "dampening": 0.1},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options):
    with pytest.raises(RuleError, match=r"(?s)SGDM got .*Give a momentum"):
        SGDM(**options)
