import itertools
import math

import pytest
import torch
from torch_geometric import transforms
from torch_geometric.data import Batch

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.nodes import nodes_of
from ngopt.graph.permute import permute, random_permutations
from ngopt.graph.pyg import NODE_FEATURES, from_pyg, to_pyg
from tests.hand_built import EXAMPLES, bundle, graph, layout, spaces

ALL = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def parameters_of(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def edges_one_by_one(described, tensors):
    """What the edges must be, entry by entry: (source, target, tap, bundle, value)."""
    nodes = nodes_of(described)
    for number, part in enumerate(described.bundles):
        entries = part.unfold(tensors[part.parameter])
        ends = []
        for role, which in (("in", nodes.sources), ("out", nodes.targets)):
            dims = [d for d, r in enumerate(part.roles) if r in ("group", role)]
            dims = [d for d in dims if isinstance(part.factors[d], str)]
            dims = dims if role in part.roles or role == "out" else []
            end = nodes.sets[which[number]]
            dims.sort(key=lambda d, part=part, end=end: end.spaces.index(part.factors[d]))
            ends.append((end.start, dims))
        used = [d for _, dims in ends for d in dims]
        ends.append((0, [d for d in part.order if d not in used]))
        for index in itertools.product(*map(range, part.sizes)):
            numbers = []
            for start, dims in ends:
                flat = 0
                for d in dims:
                    flat = flat * part.sizes[d] + index[d]
                numbers.append(start + flat)
            yield (*numbers, number, entries[index].item())


def edges_of(data):
    columns = [*data.edge_index, data.edge_tap, data.edge_type, data.edge_attr[:, 0]]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@ALL
def test_edges_are_the_entries(example):
    model, described, _ = example()
    tensors = parameters_of(model)
    data = to_pyg(described, tensors)
    assert sorted(edges_of(data)) == sorted(edges_one_by_one(described, tensors))


@ALL
def test_no_two_edges_are_the_same(example):
    model, described, _ = example()
    edges = [edge[:4] for edge in edges_of(to_pyg(described, parameters_of(model)))]
    assert len(set(edges)) == len(edges) == sum(p.numel() for p in model.parameters())


@ALL
def test_comes_back(example):
    model, described, _ = example()
    tensors = {name: (p, p.square(), p.sign()) for name, p in parameters_of(model).items()}
    returned = from_pyg(described, to_pyg(described, tensors))
    assert set(returned) == set(tensors)
    for name, stack in tensors.items():
        assert all(torch.equal(a, b) for a, b in zip(returned[name], stack, strict=True))


@pytest.mark.parametrize("names", [["w"], ["b", "empty"], ["empty"], ["c", "scalar"], []])
def test_some_parameters_come_back(names):
    shapes = {"w": (5, 3), "b": (5,), "c": (4, 3, 2, 2), "scalar": (), "empty": (0, 3)}
    described = NeuralGraph.per_tensor(shapes)
    tensors = {name: torch.randn(shapes[name]) for name in names}
    data = to_pyg(described, tensors)
    returned = from_pyg(described, data)
    assert data.num_nodes == nodes_of(described).count
    assert set(returned) == {*names, "empty"}
    assert all(torch.equal(returned[name][0], tensors[name]) for name in names)


@ALL
def test_fields_have_the_promised_shapes(example):
    model, described, _ = example()
    data = to_pyg(described, {name: [p, p] for name, p in parameters_of(model).items()})
    edges = sum(p.numel() for p in model.parameters())
    assert data.validate()
    assert data.x.shape == (data.num_nodes, len(NODE_FEATURES))
    assert data.node_type.shape == (data.num_nodes,)
    assert data.edge_index.shape == (2, edges)
    assert data.edge_attr.shape == (edges, 2)
    assert data.edge_type.shape == data.edge_tap.shape == (edges,)


@ALL
def test_node_features_describe_the_edges_around_the_node(example):
    model, described, _ = example()
    data = to_pyg(described, parameters_of(model))
    for end, name in enumerate(["log_fan_out", "log_fan_in"]):
        degree = torch.bincount(data.edge_index[end], minlength=data.num_nodes)
        column = data.x[:, NODE_FEATURES.index(name)]
        torch.testing.assert_close(column, degree.log1p())
    sets = nodes_of(described).sets
    for column, name in [(0, "depth"), (3, "pinned"), (4, "source")]:
        expected = torch.tensor([float(getattr(sets[t], name)) for t in data.node_type.tolist()])
        torch.testing.assert_close(data.x[:, column], expected)


def test_permuting_neurons_renumbers_nodes():
    model, described, _ = EXAMPLES["mlp"]()
    tensors = parameters_of(model)
    permutations = random_permutations(described, 0)
    before = to_pyg(described, tensors)
    after = to_pyg(described, permute(described, tensors, permutations))
    was = torch.arange(before.num_nodes)
    for item in nodes_of(described).sets:
        if not item.pinned:
            here = slice(item.start, item.start + item.size)
            was[here] = was[here][permutations[item.spaces[0]]]
    after.edge_index = was[after.edge_index]
    assert sorted(edges_of(after)) == sorted(edges_of(before))
    torch.testing.assert_close(after.x[was], before.x)


def test_tied_parameter_is_one_set_of_edges_under_either_name():
    model, described, _ = EXAMPLES["attention_block"]()
    tensors = parameters_of(model)
    tensors["head.weight"] = tensors.pop("embedding.weight")
    returned = from_pyg(described, to_pyg(described, tensors))
    assert torch.equal(returned["embedding.weight"][0], tensors["head.weight"])
    assert "head.weight" not in returned


def test_free_dimensions_number_the_taps():
    s = spaces(h=2, x=2)
    part = bundle("w", s, [3, "h", "x", 2], "toit")
    described = graph(s, [layout(s, "w", part.factors, "toit")])
    data = to_pyg(described, {"w": torch.randn(3, 2, 2, 2)})
    pairs = data.edge_index.T.tolist()
    taps = {}
    for pair, tap in zip(pairs, data.edge_tap.tolist(), strict=True):
        taps.setdefault(tuple(pair), []).append(tap)
    assert all(sorted(found) == list(range(6)) for found in taps.values())
    assert len(taps) == 4


def test_order_of_the_spaces_within_an_axis_does_not_matter():
    s = spaces(a=2, b=3)
    described = graph(s, [layout(s, "w", ["a", "b"], "oo"), layout(s, "v", ["b", "a"], "oo")])
    tensor = torch.randn(2, 3)
    data = to_pyg(described, {"w": tensor, "v": tensor.T})
    by_node = {0: {}, 1: {}}
    for _, target, _, kind, value in edges_of(data):
        by_node[kind][target] = value
    assert by_node[0] == by_node[1]
    assert len(by_node[0]) == 6


def test_batches_and_transforms_of_torch_geometric_apply():
    model, described, _ = EXAMPLES["mlp"]()
    first = parameters_of(model)
    second = {name: 2 * p for name, p in first.items()}
    pair = [to_pyg(described, tensors) for tensors in (first, second)]
    batch = Batch.from_data_list(pair)
    assert batch.num_nodes == 2 * pair[0].num_nodes
    assert batch.edge_index[:, -1].max() == pair[1].edge_index[:, -1].max() + pair[0].num_nodes
    returned = from_pyg(described, batch.get_example(1))
    assert all(torch.equal(returned[name][0], second[name]) for name in second)
    scaled = transforms.NormalizeFeatures(attrs=["x"])(pair[0])
    assert torch.equal(scaled.edge_attr, pair[0].edge_attr)
    assert not torch.equal(scaled.x, to_pyg(described, first).x)


def test_is_differentiable_both_ways():
    model, described, _ = EXAMPLES["attention_block"]()
    tensors = dict(model.named_parameters())
    data = to_pyg(described, tensors)
    data.edge_attr = 3 * data.edge_attr
    returned = from_pyg(described, data)
    sum(stack[0].sum() for stack in returned.values()).backward()
    assert all(torch.equal(p.grad, torch.full_like(p, 3)) for p in tensors.values())


def test_one_feature_needs_no_feature_axis():
    model, described, _ = EXAMPLES["mlp"]()
    data = to_pyg(described, parameters_of(model))
    data.edge_attr = data.edge_attr[:, 0]
    assert torch.equal(from_pyg(described, data)["0.weight"][0], model[0].weight)


def test_dtype_stays():
    model, described, _ = EXAMPLES["mlp"]()
    data = to_pyg(described, parameters_of(model.double()))
    assert data.edge_attr.dtype == torch.float64
    assert from_pyg(described, data)["0.weight"][0].dtype == torch.float64


@pytest.mark.parametrize("change", ["dropped", "reordered", "foreign"])
def test_other_edges_do_not_come_back(change):
    model, described, _ = EXAMPLES["attention_block"]()
    data = to_pyg(described, parameters_of(model))
    if change == "dropped":
        data = data.edge_subgraph(torch.arange(data.num_edges) > 0)
    elif change == "reordered":
        data.edge_type = data.edge_type.flip(0)
    else:
        data.edge_type = data.edge_type + len(described.bundles)
    with pytest.raises(GraphError, match="they are not the edges of this graph"):
        from_pyg(described, data)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"nothing": torch.zeros(2)}, "no parameter `nothing`"),
        ({"stem.bias": torch.zeros(3)}, r"`stem.bias` with shape \(8,\)"),
        ({"norm.running_mean": torch.zeros(12)}, "`norm.running_mean` is a state buffer"),
        (
            {"norm.weight": torch.zeros(12), "norm.bias": [torch.zeros(12)] * 2},
            "`norm.weight` has 1 tensors and `norm.bias` has 2",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, message):
    _, described, _ = EXAMPLES["residual_convnet"]()
    with pytest.raises(GraphError, match=message):
        to_pyg(described, tensors)


def test_scalar_is_one_edge_between_nodes_of_its_own():
    data = to_pyg(NeuralGraph.per_tensor({"s": ()}), {"s": torch.tensor(2.0)})
    assert edges_of(data) == [(0, 1, 0, 0, 2.0)]
    assert data.x[0].tolist() == pytest.approx([0.5, 0, math.log(2), 1, 1])
    assert data.x[1].tolist() == pytest.approx([0.5, math.log(2), 0, 1, 0])
