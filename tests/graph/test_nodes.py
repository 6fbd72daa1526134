import pytest

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import nodes_of
from tests.hand_built import EXAMPLES, bundle, graph, layout, spaces


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_sets_number_the_nodes_without_gaps(example):
    nodes = nodes_of(example()[1])
    ends = [item.start + item.size for item in nodes.sets]
    assert [item.start for item in nodes.sets] == [0, *ends[:-1]]
    assert nodes.count == ends[-1]


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_degrees_count_every_edge_at_both_ends(example):
    described = example()[1]
    nodes = nodes_of(described)
    edges = sum(b.numel for b in described.bundles)
    assert sum(item.size * item.fan_in for item in nodes.sets) == edges
    assert sum(item.size * item.fan_out for item in nodes.sets) == edges


def test_mlp_has_its_layers_and_a_source_per_bias():
    nodes = nodes_of(EXAMPLES["mlp"]()[1])
    x, h0, source, h1, *_, y, _ = nodes.sets
    assert [item.spaces for item in (x, h0, source, h1, y)] == [
        ("x",),
        ("h0",),
        (),
        ("h1",),
        ("y",),
    ]
    assert [item.size for item in nodes.sets if item.source] == [1, 1, 1]
    assert (h0.fan_in, h0.fan_out, h0.depth) == (4 + 1, 5, pytest.approx(1 / 6))
    assert (source.fan_in, source.fan_out) == (0, 6)
    assert [x.pinned, h0.pinned, source.pinned, y.pinned] == [True, False, True, True]


def test_bundles_meet_in_the_neurons_that_they_share():
    described = EXAMPLES["attention_block"]()[1]
    nodes = nodes_of(described)
    ends = {}
    for item, source, target in zip(described.bundles, nodes.sources, nodes.targets, strict=True):
        ends.setdefault(item.parameter, []).append((nodes.sets[source], nodes.sets[target]))
    (q, k, v), ((mixed, stream),) = ends["qkv.weight"], ends["proj.weight"]
    assert q == k
    assert v[1] == mixed
    assert mixed != q[1]
    assert q[0] == stream == ends["embedding.weight"][0][1]


def test_order_of_the_spaces_within_an_axis_does_not_matter():
    s = spaces(a=2, b=3, x=4)
    described = graph(s, [layout(s, "w", ["a", "b", "x"], "ooi"), layout(s, "v", ["b", "a"], "oo")])
    nodes = nodes_of(described)
    assert nodes.targets[0] == nodes.targets[1]


def test_outer_spaces_come_first():
    described = EXAMPLES["residual_convnet"]()[1]
    products = {item.spaces for item in nodes_of(described).sets if len(item.spaces) > 1}
    assert products == {("group", "gs"), ("group", "gi")}


def test_scalars_share_no_node():
    nodes = nodes_of(NeuralGraph.per_tensor({"a": (), "b": ()}))
    assert nodes.count == 4
    assert [item.source for item in nodes.sets] == [True, False] * 2
    assert not set(nodes.sources) & set(nodes.targets)


def test_product_is_pinned_only_if_all_its_spaces_are():
    s = spaces(x=2, h=3)
    part = bundle("w", s, ["x", "h"], "oo")
    described = graph(s, [layout(s, "w", ["x", "h"], "oo"), layout(s, "b", ["x"], "o")])
    pinned = {item.spaces: item.pinned for item in nodes_of(described).sets if not item.source}
    assert pinned == {tuple(sorted(part.out_neurons)): False, ("x",): True}
