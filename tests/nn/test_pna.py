import math
from collections import defaultdict

import pytest
import torch

from ngopt.graph.incidence import incidences
from ngopt.graph.nodes import nodes_of
from ngopt.nn import pna_dense
from ngopt.nn.pna import AGGREGATORS, PNALayer, deviation
from tests.rules.rule_inputs import MLP, randomize

WIDTH = 3


def affine(module, *parts):
    bias = 0 if module.bias is None else module.bias
    return torch.cat(parts) @ module.weight + bias


def normalized(module, x):
    scaled = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return scaled * module.weight + module.bias


def silu(x):
    return x / (1 + torch.exp(-x))


def message(layer, modulation, edge, into, out_of):
    scale, shift = affine(modulation, edge).split(WIDTH)
    return scale * (affine(layer.near, into) + affine(layer.far, out_of)) + shift


def aggregated(layer, messages):
    heard = {
        "mean": messages.mean(0),
        "min": messages.min(0).values,
        "max": messages.max(0).values,
        "std": deviation((messages - messages.mean(0)).square().mean(0)),
    }
    parts = torch.cat([heard[name] for name in layer.aggregators])
    return [parts, parts * math.log(len(messages) + 1) / 4] if layer.scalers else [parts]


def reference(layer, nodes, edges, ends):
    """The equations of one layer, node by node and edge by edge."""
    places = [
        (b, (g, o, i), int(end.target[g, o]), int(end.source[g, i]))
        for b, (edge, end) in enumerate(zip(edges, ends, strict=True))
        for g, o, i in torch.cartesian_prod(*map(torch.arange, edge.shape[:3])).tolist()
    ]
    inbox = defaultdict(list)
    for b, place, target, source in places:
        edge, x, y = edges[b][place], nodes[target], nodes[source]
        inbox[target].append(message(layer, layer.along, edge, x, y))
        if layer.against is not None:
            inbox[source].append(message(layer, layer.against, edge, y, x))
    after = []
    for number, node in enumerate(nodes):
        messages = torch.stack(inbox[number]) if inbox[number] else torch.zeros(1, WIDTH).double()
        mixed = affine(layer.mix, node, *aggregated(layer, messages))
        after.append(silu(normalized(layer.norm, mixed)))
    new = [edge.clone() for edge in edges]
    for b, place, target, source in places if layer.edge_updates else ():
        hidden = layer.edge_hidden
        total = affine(hidden.pair, edges[b][place])
        total = total + affine(hidden.target, after[target]) + affine(hidden.source, after[source])
        change = affine(layer.edge_out, silu(total))
        new[b][place] = normalized(layer.edge_norm, edges[b][place] + change)
    return torch.stack(after), new


OPTIONS = {
    "all": (AGGREGATORS, True, True, True),
    "without scalers": (("max", "std"), False, True, True),
    "one way": (AGGREGATORS, True, False, True),
    "mean, edges kept": (("mean",), True, True, False),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equations(options):
    layer = randomize(PNALayer(WIDTH, *options, torch.Generator())).double()
    described = nodes_of(MLP)
    ends = incidences(MLP, described, torch.device("cpu"))
    nodes = torch.randn(described.count, WIDTH).double()
    edges = [torch.randn(*bundle.shape[:3], WIDTH).double() for bundle in MLP.bundles]
    with torch.no_grad():
        found = layer(nodes, edges, ends, pna_dense.aggregate)
        expected = reference(layer, nodes, edges, ends)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_deviation_of_equals_is_0_and_has_a_derivative():
    variance = torch.tensor([0.0, 4.0], requires_grad=True)
    result = deviation(variance)
    assert result[0] == 0
    assert result[1].item() == pytest.approx(2, rel=1e-5)
    assert torch.autograd.grad(result.sum(), variance)[0].isfinite().all()
