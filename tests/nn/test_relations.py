from collections import defaultdict

import pytest
import torch
from torch import nn

from ngopt.nn.relations import (
    FREQUENCIES,
    INDEX,
    PinnedFactors,
    RelationLayer,
    RelationNetwork,
    node_pools,
    pinned_indices,
    soft_norm,
)
from tests.rules.rule_inputs import GRAPHS, MLP, randomize
from tests.rules.test_graph_inputs import graph_inputs_of

INPUTS, OUTPUTS = 3, 2
every_graph = pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)


def pairs_of(graph_inputs, features=INPUTS):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(*bundle.bundle.shape[:3], features, generator=generator, dtype=torch.float64)
        for bundle in graph_inputs.bundles
    ]


def layer(**options):
    return randomize(RelationLayer(INPUTS, OUTPUTS, torch.Generator(), **options)).double()


def pools_by_loops(graph_inputs, pairs, by_bundle):
    """The same, edge by edge."""
    heard = defaultdict(list)
    for bundle, ends, x in zip(graph_inputs.bundles, graph_inputs.ends, pairs, strict=True):
        bias = "in" not in bundle.bundle.roles
        said = defaultdict(list)
        for g, o, i in torch.cartesian_prod(*map(torch.arange, x.shape[:3])).tolist():
            said[ends.target[g, o].item(), int(bias)].append(x[g, o, i])
            if not bias:
                said[ends.source[g, i].item(), 2].append(x[g, o, i])
        for place, edges in said.items():
            heard[place] += [torch.stack(edges).mean(0)] if by_bundle else edges
    pools = torch.zeros(graph_inputs.nodes.count, 3, INPUTS, dtype=torch.float64)
    for place, edges in heard.items():
        pools[place] = torch.stack(edges).mean(0)
    return pools.flatten(1)


@every_graph
@pytest.mark.parametrize("by_bundle", [False, True])
def test_pools_of_nodes(described, by_bundle):
    graph_inputs = graph_inputs_of(described)
    pairs = pairs_of(graph_inputs)
    expected = pools_by_loops(graph_inputs, pairs, by_bundle)
    torch.testing.assert_close(node_pools(graph_inputs.connectivity, pairs, by_bundle), expected)


def layer_by_loops(layer, x):
    """One layer on the MLP, entry by entry, from `x` by name of the parameter."""
    depth = 3
    nothing = torch.zeros(INPUTS, dtype=torch.float64)
    weights = [x[f"{2 * n}.weight"].squeeze(0) for n in range(depth)]
    biases = [x[f"{2 * n}.bias"].squeeze((0, 2)) for n in range(depth)]
    everywhere = [
        torch.stack([tensor.flatten(0, -2).mean(0) for tensor in tensors]).mean(0)
        for tensors in (weights, biases)
    ]

    def neuron(n, index):
        """Means of what enters and leaves neuron `index` between the layers `n - 1` and `n`."""
        return [
            weights[n - 1][index].mean(0) if n else nothing,
            biases[n - 1][index] if n else nothing,
            weights[n][:, index].mean(0) if n < depth else nothing,
        ]

    result = {}
    for n in range(depth):
        w, b = weights[n], biases[n]
        maps = layer.weights
        result[f"{2 * n}.weight"] = torch.stack(
            [
                maps.pairs(w[o, i])
                + maps.rows(torch.cat([w[o].mean(0), *neuron(n + 1, o)]))
                + maps.columns(torch.cat([w[:, i].mean(0), *neuron(n, i)]))
                + maps.whole(torch.cat([w.mean((0, 1)), *everywhere]))
                for o in range(len(w))
                for i in range(w.shape[1])
            ]
        ).view(1, *w.shape[:2], OUTPUTS)
        maps = layer.biases
        result[f"{2 * n}.bias"] = torch.stack(
            [
                maps.pairs(b[o])
                + maps.rows(torch.cat(neuron(n + 1, o)))
                + maps.whole(torch.cat([b.mean(0), *everywhere]))
                for o in range(len(b))
            ]
        ).view(1, -1, 1, OUTPUTS)
    return result


@pytest.mark.parametrize("by_bundle", [False, True])
def test_layer_is_the_formula(by_bundle):
    graph_inputs = graph_inputs_of(MLP)
    pairs = pairs_of(graph_inputs)
    one = layer(by_bundle=by_bundle)
    names = [bundle.name for bundle in graph_inputs.bundles]
    expected = layer_by_loops(one, dict(zip(names, pairs, strict=True)))
    found = one(graph_inputs.connectivity, pairs, pinned_indices(graph_inputs.connectivity))
    for name, tensor in zip(names, found, strict=True):
        torch.testing.assert_close(tensor, expected[name])


def test_bundles_count_alike_or_by_their_edges():
    graph_inputs = graph_inputs_of(GRAPHS["attention_block"])
    pairs, indices = pairs_of(graph_inputs), pinned_indices(graph_inputs.connectivity)
    outputs = [
        layer(by_bundle=flag)(graph_inputs.connectivity, pairs, indices) for flag in (False, True)
    ]
    differs = {
        bundle.name
        for bundle, first, second in zip(graph_inputs.bundles, *outputs, strict=True)
        if not torch.allclose(first, second)
    }
    # Into the model's neurons lead 7, 12 and 10 edges of three bundles; into those of the heads
    # only 8 of one.
    assert "up.weight" in differs
    assert "down.bias" in differs
    assert "qkv.bias" not in differs


@every_graph
@pytest.mark.parametrize("pinned", [False, True])
def test_layer_is_linear(described, pinned):
    graph_inputs = graph_inputs_of(described)
    indices = pinned_indices(graph_inputs.connectivity)
    one, x, y = layer(pinned=pinned), pairs_of(graph_inputs), pairs_of(graph_inputs)
    y = [tensor.flip(0).sin() for tensor in y]
    zero = one(graph_inputs.connectivity, [torch.zeros_like(t) for t in x], indices)
    both = one(graph_inputs.connectivity, [a + 2 * b for a, b in zip(x, y, strict=True)], indices)
    for a, b, c, d in zip(
        both,
        one(graph_inputs.connectivity, x, indices),
        one(graph_inputs.connectivity, y, indices),
        zero,
        strict=True,
    ):
        torch.testing.assert_close(a - d, (b - d) + 2 * (c - d))


MLP_WEIGHTS = {"0.weight", "2.weight", "4.weight"}
MLP_BIASES = {"0.bias", "2.bias", "4.bias"}
MODEL_BIASES = {"norm.weight", "norm.bias", "proj.bias", "down.bias"}
REACH = [
    ("mlp", "weights.pairs", 0, "2.weight", {"2.weight"}),
    ("mlp", "weights.pairs", 0, "2.bias", set()),
    ("mlp", "weights.rows", 0, "2.weight", {"2.weight"}),
    ("mlp", "weights.rows", 1, "2.weight", {"2.weight"}),
    ("mlp", "weights.rows", 2, "2.bias", {"2.weight"}),
    ("mlp", "weights.rows", 2, "2.weight", set()),
    ("mlp", "weights.rows", 3, "2.weight", {"0.weight"}),
    ("mlp", "weights.columns", 0, "2.weight", {"2.weight"}),
    ("mlp", "weights.columns", 1, "2.weight", {"4.weight"}),
    ("mlp", "weights.columns", 2, "2.bias", {"4.weight"}),
    ("mlp", "weights.columns", 3, "2.weight", {"2.weight"}),
    ("mlp", "weights.whole", 0, "2.weight", {"2.weight"}),
    ("mlp", "weights.whole", 1, "2.weight", MLP_WEIGHTS),
    ("mlp", "weights.whole", 2, "2.bias", MLP_WEIGHTS),
    ("mlp", "biases.pairs", 0, "2.bias", {"2.bias"}),
    ("mlp", "biases.rows", 0, "2.weight", {"2.bias"}),
    ("mlp", "biases.rows", 1, "2.bias", {"2.bias"}),
    ("mlp", "biases.rows", 2, "2.weight", {"0.bias"}),
    ("mlp", "biases.whole", 0, "2.bias", {"2.bias"}),
    ("mlp", "biases.whole", 1, "2.weight", MLP_BIASES),
    ("mlp", "biases.whole", 2, "2.bias", MLP_BIASES),
    # Residual siblings, parallel readers of the stream, and biases of the same neurons.
    (
        "attention_block",
        "weights.rows",
        1,
        "proj.weight",
        {"embedding.weight", "proj.weight", "down.weight"},
    ),
    ("attention_block", "weights.columns", 3, "up.weight", {"qkv.weight", "up.weight"}),
    ("attention_block", "weights.columns", 1, "proj.weight", {"qkv.weight", "up.weight"}),
    ("attention_block", "biases.rows", 1, "norm.weight", MODEL_BIASES),
]


@pytest.mark.parametrize(("graph", "maps", "block", "turned", "reached"), REACH)
def test_each_relation_reaches_what_it_should(graph, maps, block, turned, reached):
    graph_inputs = graph_inputs_of(GRAPHS[graph])
    one = layer()
    only = one.get_submodule(maps).weight
    kept = only[block * INPUTS : (block + 1) * INPUTS].clone()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
        only[block * INPUTS : (block + 1) * INPUTS] = kept
    indices = pinned_indices(graph_inputs.connectivity)
    before = pairs_of(graph_inputs)
    after = [
        x + 1.0 if bundle.name == turned else x
        for bundle, x in zip(graph_inputs.bundles, before, strict=True)
    ]
    changed = {
        bundle.name
        for bundle, a, b in zip(
            graph_inputs.bundles,
            one(graph_inputs.connectivity, before, indices),
            one(graph_inputs.connectivity, after, indices),
            strict=True,
        )
        if not torch.equal(a, b)
    }
    assert changed == reached


def test_indices_tell_pinned_neurons_apart_and_no_others():
    graph_inputs = graph_inputs_of(MLP)
    indices = pinned_indices(graph_inputs.connectivity)
    assert indices.shape == (graph_inputs.nodes.count, INDEX)
    for item in graph_inputs.nodes.sets:
        rows = indices[item.start : item.start + item.size]
        if item.spaces in (("x",), ("y",)):
            assert rows[:, 0].eq(1).all()
            assert len(rows.unique(dim=0)) == item.size
            # From 0 to pi at the lowest frequency, however many there are.
            cosines = rows[:, 1 + FREQUENCIES]
            torch.testing.assert_close(cosines[[0, -1]], cosines.new_tensor([1.0, -1.0]))
        else:
            assert not rows.any()


def test_factors_are_one_between_hidden_neurons():
    graph_inputs = graph_inputs_of(MLP)
    pairs = pairs_of(graph_inputs)
    factors = randomize(PinnedFactors(INPUTS, torch.Generator()))
    found = factors(graph_inputs.connectivity, pairs, pinned_indices(graph_inputs.connectivity))
    same = {
        bundle.name
        for bundle, a, b in zip(graph_inputs.bundles, found, pairs, strict=True)
        if torch.equal(a, b)
    }
    assert same == {"0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("width", [1, 8, 64])
@pytest.mark.parametrize("described", GRAPHS.values(), ids=GRAPHS)
def test_a_fresh_layer_keeps_the_size_of_features(described, width):
    graph_inputs = graph_inputs_of(described)
    generator = torch.Generator().manual_seed(0)
    one = RelationLayer(width, 64, generator, pinned=True)
    for x in one(
        graph_inputs.connectivity,
        pairs_of(graph_inputs, width),
        pinned_indices(graph_inputs.connectivity),
    ):
        assert 0.1 < x.square().mean().sqrt() < 4


def test_soft_norm_bounds_and_is_the_identity_near_zero():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert (soft_norm(1e6 * x).square().mean(-1).sqrt() - 1).abs().max() < 1e-9
    torch.testing.assert_close(soft_norm(1e-6 * x), 1e-6 * x, rtol=1e-10, atol=0)
    (slope,) = torch.autograd.grad(soft_norm(0 * x).sum(), x)
    assert slope.isfinite().all()


def test_entries_of_one_pair_share_the_pair_and_keep_their_own_inputs():
    graph_inputs = graph_inputs_of(GRAPHS["residual_convnet"])
    inputs = graph_inputs.entry_features()
    channels = inputs[0].shape[-1]
    generator = torch.Generator()
    options = {"activation": torch.relu, "zero": False}
    net = RelationNetwork(channels, 4, [layer_of(4, generator)], 1, generator, **options)
    randomize(net).double()
    outputs = net(graph_inputs.connectivity, inputs)
    for x, out in zip(inputs, outputs, strict=True):
        assert out.shape == (*x.shape[:-1], 1)
    with torch.no_grad():
        net.head.layers[0].weight[:channels] = 0  # the entry's own inputs
    blind = net(graph_inputs.connectivity, inputs)
    for out, same in zip(outputs, blind, strict=True):
        torch.testing.assert_close(same, same[:, :, :, :1].expand_as(same), rtol=0, atol=0)
        assert out.shape[3] == 1 or out.std(3).min() > 0


def layer_of(width, generator):
    return RelationLayer(width, width, generator)


def test_the_embedding_of_inputs_and_outputs_is_an_option():
    def net(flag):
        return RelationNetwork(
            5, 4, [], 1, torch.Generator(), activation=nn.ReLU(), zero=True, io_embedding=flag
        )

    added = set(dict(net(True).named_parameters())) - set(dict(net(False).named_parameters()))
    assert added == {"target.weight", "source.weight"}
