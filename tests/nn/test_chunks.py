from functools import partial

import pytest
import torch

from ngopt.graph.incidence import Incidence
from ngopt.nn import chunks, pna_dense
from ngopt.nn.chunks import at_once, by_chunks
from ngopt.nn.pna import AGGREGATORS, PNALayer
from tests.nn.test_pna import WIDTH
from tests.rules.rule_inputs import randomize


def squares_and_sums(x, y):
    return x.square() * y, x.sum(1)


@pytest.mark.parametrize("numbers", [1, 12, 10**6])
def test_parts_are_put_together_with_their_derivatives(monkeypatch, numbers):
    monkeypatch.setattr(chunks, "NUMBERS", numbers)
    x, y = (torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    results = []
    for apply in (at_once, by_chunks):
        out = apply(squares_and_sums, [x, y])
        gradients = torch.autograd.grad(sum((1 + t).square().sum() for t in out), [x, y])
        results.append((*out, *gradients))
    torch.testing.assert_close(*results)


def test_no_part_is_larger_than_told(monkeypatch):
    monkeypatch.setattr(chunks, "NUMBERS", 12)
    seen = []

    def look(x):
        seen.append(x.numel())
        return (x,)

    by_chunks(look, [torch.randn(7, 4)])
    assert seen == [12, 12, 4]


@pytest.mark.parametrize("aggregators", [AGGREGATORS, ("mean",)])
def test_a_layer_is_the_same_by_chunks(monkeypatch, aggregators):
    monkeypatch.setattr(chunks, "NUMBERS", 20)
    layer = PNALayer(WIDTH, aggregators, True, True, True, torch.Generator(), edge_width=2)
    randomize(layer).double()
    nodes = torch.randn(5 * 7, WIDTH, dtype=torch.float64, requires_grad=True)
    numbers = torch.arange(35).view(5, 7)
    ends = [Incidence(numbers[:, :3], numbers[:, 3:])]
    edges = [torch.randn(5, 3, 4, 2, dtype=torch.float64, requires_grad=True)]
    results = []
    for apply in (at_once, by_chunks):
        aggregate = partial(pna_dense.aggregate, apply=apply)
        found, (after,) = layer(nodes, edges, ends, aggregate, apply)
        loss = found.square().sum() + after.sin().sum()
        results.append((found, after, *torch.autograd.grad(loss, [nodes, *edges])))
    torch.testing.assert_close(*results)
