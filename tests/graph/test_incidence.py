import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngopt.graph.incidence import incidences, neuron_dims, row_major
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import nodes_of
from ngopt.graph.pyg import to_pyg
from tests.hand_built import EXAMPLES, bundle, graph, layout, spaces

CPU = torch.device("cpu")
GRAPHS = {name: example()[1] for name, example in EXAMPLES.items()}
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def ends(described):
    return incidences(described, nodes_of(described), CPU)


def by_hand(described, part, nodes, role):
    """The node at one end of each edge of an unfolded bundle, found edge by edge."""
    sources, targets = nodes.sources, nodes.targets
    number = described.bundles.index(part)
    item = nodes.sets[(targets if role == "out" else sources)[number]]
    result = torch.empty(part.sizes, dtype=torch.long)
    has_inputs = role == "out" or "in" in part.roles
    for place in itertools.product(*map(range, part.sizes)):
        index = {}
        for factor, r, i in zip(part.factors, part.roles, place, strict=True):
            if isinstance(factor, str) and r in ("group", role) and has_inputs:
                index[factor] = i
        offset = 0
        for name in item.spaces:
            offset = offset * described.spaces[name].size + index[name]
        result[place] = item.start + offset
    return result


def assert_as_by_hand(described):
    nodes = nodes_of(described)
    for part, (target, source) in zip(described.bundles, ends(described), strict=True):
        group, outputs, inputs, _ = part.shape
        assert target.shape == (group, outputs)
        assert source.shape == (group, inputs)
        enters = by_hand(described, part, nodes, "out").permute(part.order).reshape(part.shape)
        leaves = by_hand(described, part, nodes, "in").permute(part.order).reshape(part.shape)
        assert torch.equal(enters, target[:, :, None, None].expand(part.shape))
        assert torch.equal(leaves, source[:, None, :, None].expand(part.shape))


@every_graph
def test_every_edge_ends_at_the_neurons_that_it_joins(described):
    assert_as_by_hand(described)


FACTORS = ["a", "b", "c", "x", 2, 3]


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(FACTORS), st.sampled_from("goit")), max_size=5).filter(
            lambda dims: all(isinstance(f, int) or r != "t" for f, r in dims)
        ),
        min_size=1,
        max_size=3,
    )
)
def test_random_bundles(drawn):
    s = spaces(x=3, a=2, b=3, c=(2, "b"))
    known = {name: space.name for name, space in s.items()}
    layouts = []
    for number, dims in enumerate(drawn):
        seen, kept = set(), []
        for factor, role in dims:  # by_hand knows a space by its name, so each stands once
            if factor not in seen:
                kept.append((known.get(factor, factor), role))
            seen.add(factor if isinstance(factor, str) else None)
        layouts.append(layout(s, f"w{number}", [f for f, _ in kept], "".join(r for _, r in kept)))
    assert_as_by_hand(graph(s, layouts))


@every_graph
def test_agrees_with_the_edges_of_torch_geometric(described):
    tensors = {name: torch.zeros(item.shape) for name, item in described.parameters.items()}
    data = to_pyg(described, tensors)
    for number, (target, source) in enumerate(ends(described)):
        leaves, enters = data.edge_index[:, data.edge_type == number]
        assert set(leaves.tolist()) == set(source.flatten().tolist())
        assert set(enters.tolist()) == set(target.flatten().tolist())


def test_two_uses_of_the_same_neurons_in_another_order():
    s = spaces(a=2, b=3, x=4)
    described = graph(s, [layout(s, "w", ["a", "b", "x"], "ooi"), layout(s, "v", ["b", "a"], "oo")])
    (w, _), (v, _) = ends(described)
    assert torch.equal(v.view(3, 2), w.view(2, 3).T)


def test_neurons_of_a_group_differ_between_groups():
    s = spaces(x=1, g=3, o=(2, "g"), i=(4, "g"))
    described = graph(s, [layout(s, "w", ["g", "o", "i"], "goi")])
    ((target, source),) = ends(described)
    assert len(target.unique()) == 6
    assert len(source.unique()) == 12


def test_places_beside_neurons_belong_to_the_same_neuron():
    s = spaces(h=3, y=2)
    part = bundle("w", s, ["y", "h", 4], "oii")
    described = graph(s, [layout(s, "w", ["y", "h", 4], "oii")])
    ((_, source),) = ends(described)
    start = nodes_of(described).sets[0].start
    assert source.tolist() == [[start + i for i in range(3) for _ in range(4)]]
    assert neuron_dims(described, part, "in") == [1]


def test_parameters_without_inputs_leave_one_node_of_their_own():
    described = NeuralGraph.per_tensor({"a": (3,), "b": (3,), "c": (), "none": (0,)})
    sources = [end.source for end in ends(described)]
    assert [source.shape for source in sources] == [(1, 1)] * 3
    assert len(torch.cat(sources).unique()) == 3


def test_row_major():
    assert torch.equal(row_major([2, 3, 4], [0, 1, 2], CPU), torch.arange(24).view(2, 3, 4))
    assert torch.equal(row_major([2, 3], [1, 0], CPU), torch.arange(6).view(3, 2).T)
    assert row_major([2, 2], [1], CPU).tolist() == [[0, 1], [0, 1]]
    assert row_major([], [], CPU).shape == ()
    assert row_major([2, 3], [0], torch.device("meta")).device.type == "meta"
