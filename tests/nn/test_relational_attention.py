import torch
from torch import nn

from ngopt.nn.relational_attention import Relation, RelationalAttention
from tests.nn.attention_by_loops import attention_by_loops
from tests.rules.rule_inputs import randomize

WIDTH, EDGE, HEADS, NODES = 6, 3, 2, 7
"""Node 6 is in no relation; node 1 is in all of them, and in the first with itself."""


def attention():
    layer = RelationalAttention(WIDTH, EDGE, HEADS, torch.Generator().manual_seed(0))
    return randomize(layer).double()


def example():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    ends = [([[0, 1]], [[1, 2, 3]]), ([[1], [4]], [[2, 3], [5, 0]]), ([[1, 2]], [[4]])]
    relations = [
        Relation(torch.tensor(to), torch.tensor(of), draw(len(to), len(to[0]), len(of[0]), EDGE))
        for to, of in ends
    ]
    return draw(NODES, WIDTH), relations


def test_equals_loops():
    layer, (x, relations) = attention(), example()
    torch.testing.assert_close(layer(x, relations), attention_by_loops(layer, x, relations))


def test_equals_masked_attention_over_all_pairs():
    """Without anything from the edges but a factor of 1, it is what torch calls attention."""
    layer, (x, relations) = attention(), example()
    with torch.no_grad():
        layer.edge_score.weight.zero_()
        layer.edge_value.weight.zero_()
        layer.edge_value.bias.copy_(torch.tensor([1.0] * WIDTH + [0.0] * WIDTH))
    relations = relations[1:]  # in the first, node 1 meets itself twice
    mask = torch.eye(NODES, dtype=torch.bool)
    for receivers, senders, _ in relations:
        mask[receivers[:, :, None], senders[:, None]] = True
    query, key, value = (
        torch.stack(part.chunk(HEADS, -1))
        for part in (*layer.node_score(x).chunk(2, -1), layer.node_value(x))
    )
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, mask)
    expected = layer.output(torch.cat(list(mixed), -1))
    torch.testing.assert_close(layer(x, relations), expected)


def test_node_without_edges_attends_to_itself():
    layer, (x, relations) = attention(), example()
    expected = layer.output(layer.node_value(x))
    torch.testing.assert_close(layer(x, relations)[6], expected[6])
    torch.testing.assert_close(layer(x, []), expected)
    assert not torch.allclose(layer(x, relations)[1], expected[1])


def test_derivatives():
    layer, (x, relations) = attention(), example()
    edges = [relation.edges.requires_grad_() for relation in relations]

    def run(x, *edges):
        parts = zip(relations, edges, strict=True)
        return layer(x, [relation._replace(edges=e) for relation, e in parts])

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *edges))


def test_large_scores_neither_overflow_nor_vanish():
    layer, (x, relations) = attention(), example()
    x = (1e4 * x).requires_grad_()
    torch.testing.assert_close(layer(x, relations), attention_by_loops(layer, x, relations))
    (slope,) = torch.autograd.grad(layer(x, relations).sum(), x)
    assert slope.isfinite().all()


def test_under_vmap():
    layer, (x, relations) = attention(), example()
    stacked = torch.stack([x, x.flip(0), 2 * x])
    edges = [torch.stack([r.edges, -r.edges, 3 * r.edges]) for r in relations]

    def run(x, *edges):
        parts = zip(relations, edges, strict=True)
        return layer(x, [relation._replace(edges=e) for relation, e in parts])

    expected = torch.stack([run(*one) for one in zip(stacked, *edges, strict=True)])
    torch.testing.assert_close(torch.func.vmap(run)(stacked, *edges), expected)
