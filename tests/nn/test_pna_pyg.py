"""Messages by torch_geometric are those of the dense form, in value and in derivative."""

from itertools import cycle

import pytest
import torch

from ngopt.rules.ng_gnn import NGGNN
from tests.rules.rule_inputs import GRAPHS, randomize, relative_error, warm, zoo_graph

MODELS = (
    "mlp_layernorm",
    "glu",
    "used_twice",
    "embedding",
    "conv_flatten",
    "resnet",
    "depthwise_separable",
    "grouped",
    "lstm",
    "tied_autoencoder",
    "multihead_attention",
    "gqa_native",
)
AGGREGATORS = {"mean": ["mean"], "all": ["std", "mean", "max", "min"]}


def outputs_and_derivatives(backend, aggregators, described):
    """Updates, and derivatives with respect to theta of a random sum of them."""
    rule = NGGNN(4, 2, aggregators=aggregators, backend=backend, recurrent=True)
    rule = randomize(rule).double()
    updates, _ = rule(*warm(rule, described, steps=1), described)
    loss = sum(update.sin().sum() for update in updates.values())
    theta = dict(rule.named_parameters())
    return updates, dict(zip(theta, torch.autograd.grad(loss, theta.values()), strict=True))


@pytest.mark.parametrize(("name", "aggregators"), [*zip([*GRAPHS, *MODELS], cycle(AGGREGATORS))])
def test_equals_the_dense_backend(name, aggregators):
    described = GRAPHS[name] if name in GRAPHS else zoo_graph(name)
    found, expected = (
        outputs_and_derivatives(backend, AGGREGATORS[aggregators], described)
        for backend in ("pyg", "dense")
    )
    assert relative_error(found[0], expected[0]) <= 1e-10
    largest = max(derivative.abs().max() for derivative in expected[1].values())
    for key, derivative in expected[1].items():
        assert (found[1][key] - derivative).abs().max() <= 1e-10 * largest, key
