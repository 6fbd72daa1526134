import pytest
import torch
from torch import nn
from torch.func import functional_call

from ngopt.errors import GraphError
from ngopt.graph.bundle import ViewStep
from ngopt.graph.layout import Layout
from ngopt.graph.permute import permute, random_permutations
from tests.hand_built import EXAMPLES, bundle, graph, layout, spaces, tensors_of

HIDDEN = [(name, space.name) for name, example in EXAMPLES.items() for space in example()[1].hidden]


def output(model, tensors, inputs):
    return functional_call(model, tensors, (inputs,), tie_weights=False).detach()


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_output_stays(example, seed):
    model, described, inputs = example()
    tensors = tensors_of(model)
    permuted = permute(described, tensors, seed)
    assert changed(tensors, permuted) == set(tensors) - {"4.bias", "head.bias"}
    torch.testing.assert_close(output(model, permuted, inputs), output(model, tensors, inputs))


@pytest.mark.parametrize(("name", "space"), HIDDEN)
def test_output_stays_for_each_space_alone(name, space):
    model, described, inputs = EXAMPLES[name]()
    tensors = tensors_of(model)
    permuted = permute(described, tensors, random_permutations(described, 3, [space]))
    touched = {
        item.name
        for item in described.layouts.values()
        if any(space in bundle.spaces() for bundle in item.bundles)
    }
    tied = {alias for alias, real in described.aliases.items() if real in touched}
    assert changed(tensors, permuted) == touched | tied
    torch.testing.assert_close(output(model, permuted, inputs), output(model, tensors, inputs))


def test_output_changes_where_the_graph_is_wrong():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    s = spaces(x=4, h=6, other=6, y=3)
    items = [
        layout(s, "0.weight", ["h", "x"], "oi"),
        layout(s, "0.bias", ["h"], "o"),
        layout(s, "2.weight", ["y", "other"], "oi"),
    ]
    tensors, inputs = tensors_of(model), torch.randn(5, 4)
    permuted = permute(graph(s, items), tensors, 0)
    difference = output(model, permuted, inputs) - output(model, tensors, inputs)
    assert difference.abs().max() > 1e-2


def test_recurrent_neurons_permute_at_both_ends():
    model, inputs = nn.LSTM(3, 5), torch.randn(6, 2, 3)
    s = spaces(x=3, h=5)
    gates = ViewStep(0, 0, 20, (4, 5))
    parts = [
        bundle("weight_ih_l0", s, [4, "h", "x"], "toi", [gates], [0, 0, 1]),
        bundle("weight_hh_l0", s, [4, "h", "h"], "toi", [gates], [0, 0, 1]),
        bundle("bias_ih_l0", s, [4, "h"], "to", [gates], [0, 0]),
        bundle("bias_hh_l0", s, [4, "h"], "to", [gates], [0, 0]),
    ]
    tensors = tensors_of(model)
    items = [Layout(b.parameter, tuple(tensors[b.parameter].shape), (b,)) for b in parts]
    described = graph(s, items)
    permutations = random_permutations(described, 0)
    before, _ = functional_call(model, tensors, (inputs,))
    after, _ = functional_call(model, permute(described, tensors, permutations), (inputs,))
    torch.testing.assert_close(after, before[..., permutations["h"]])


def test_identity_changes_nothing():
    model, described, _ = EXAMPLES["attention_block"]()
    identity = {
        name: torch.arange(index.shape[-1]).expand(index.shape)
        for name, index in random_permutations(described, 0).items()
    }
    tensors = tensors_of(model)
    assert changed(tensors, permute(described, tensors, identity)) == set()


def test_two_permutations_are_one():
    model, described, _ = EXAMPLES["mlp"]()
    first, second = random_permutations(described, 0), random_permutations(described, 1)
    both = {name: first[name][second[name]] for name in first}
    tensors = tensors_of(model)
    twice = permute(described, permute(described, tensors, first), second)
    assert changed(twice, permute(described, tensors, both)) == set()


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_inverse_brings_back(example):
    model, described, _ = example()
    forth = random_permutations(described, 0)
    back = {}
    for name, index in forth.items():
        inverse = index.argsort(-1)
        within = described.spaces[name].within
        # A nested permutation goes with its outer neuron, to where that neuron went.
        back[name] = inverse[forth[within[0]].argsort()] if within else inverse
    tensors = tensors_of(model)
    returned = permute(described, permute(described, tensors, forth), back)
    assert changed(tensors, returned) == set()


def test_nested_spaces_permute_differently_for_each_outer_neuron():
    _, described, _ = EXAMPLES["attention_block"]()
    index = random_permutations(described, 0, ["v"])["v"]
    assert index.shape == (4, 3)
    assert torch.equal(index.sort(-1).values, torch.arange(3).expand(4, 3))
    assert len(index.unique(dim=0)) > 1


def test_seed_decides_and_leaves_the_global_random_state_alone():
    _, described, _ = EXAMPLES["mlp"]()
    state = torch.get_rng_state()
    first, again, other = (random_permutations(described, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_arguments_are_left_alone_and_strangers_pass():
    model, described, _ = EXAMPLES["mlp"]()
    tensors = tensors_of(model)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    stranger = torch.randn(2)
    permuted = permute(described, {**tensors, "stranger": stranger}, 0)
    assert changed(copies, tensors) == set()
    assert permuted["stranger"] is stranger


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("x", r"`x`: it is pinned \(input of the model\)"),
        ("nothing", r"`nothing`: it is unknown"),
    ],
)
def test_only_hidden_spaces_permute(space, message):
    _, described, _ = EXAMPLES["mlp"]()
    with pytest.raises(GraphError, match=message) as error:
        random_permutations(described, 0, [space])
    assert "Hidden spaces of this graph: h0, h1" in str(error.value)


def test_tensor_of_another_shape_is_refused():
    _, described, _ = EXAMPLES["mlp"]()
    with pytest.raises(GraphError, match=r"`0\.weight` with shape \(6, 4\)"):
        permute(described, {"0.weight": torch.randn(4, 6)}, 0)


def test_nested_space_without_its_outer_space_is_refused():
    s = spaces(h=3, d=(4, "h"))
    described = graph(s, [layout(s, "w", ["d"], "o")])
    with pytest.raises(GraphError, match="`w` has neurons nested in `h`, but no axis runs over"):
        permute(described, {"w": torch.randn(4)}, 0)
