import copy
import pickle

import pytest
import torch

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from tests.hand_built import EXAMPLES, attention_block, residual_convnet, tensors_of

SHAPES = {
    "scalar": (),
    "bias": (5,),
    "weight": (5, 3),
    "conv1d": (5, 3, 2),
    "conv2d": (5, 3, 2, 4),
    "conv3d": (5, 3, 2, 4, 2),
    "empty": (0, 3),
}


@pytest.mark.parametrize(
    ("name", "array", "neurons"),
    [
        ("scalar", (1, 1, 1, 1), []),
        ("bias", (1, 5, 1, 1), ["bias:0"]),
        ("weight", (1, 5, 3, 1), ["weight:0", "weight:1"]),
        ("conv1d", (1, 5, 3, 2), ["conv1d:0", "conv1d:1"]),
        ("conv2d", (1, 5, 3, 8), ["conv2d:0", "conv2d:1"]),
        ("conv3d", (1, 5, 3, 16), ["conv3d:0", "conv3d:1"]),
    ],
)
def test_lone_tensors_have_rows_and_columns(name, array, neurons):
    graph = NeuralGraph.per_tensor(SHAPES)
    tensor = torch.randn(SHAPES[name])
    (viewed,) = graph.layout(name).views(tensor)
    assert viewed.shape == array
    assert viewed.data_ptr() == tensor.data_ptr()
    assert list(graph.layout(name).bundles[0].spaces()) == neurons


def test_lone_tensors_share_no_neurons_and_permute_none():
    graph = NeuralGraph.per_tensor(SHAPES)
    used = [name for bundle in graph.bundles for name in bundle.spaces()]
    assert len(used) == len(set(used))
    assert graph.hidden == ()


def test_empty_lone_tensor_has_no_edges():
    graph = NeuralGraph.per_tensor(SHAPES)
    assert graph.layout("empty").bundles == ()
    assert graph.layout("empty").shape == (0, 3)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_describes_every_parameter_of_the_model(example):
    model, graph, _ = example()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert {name: item.shape for name, item in graph.parameters.items()} == shapes
    assert sum(b.numel for b in graph.bundles) == sum(p.numel() for p in model.parameters())


def test_state_buffers_are_no_parameters():
    _, graph, _ = residual_convnet()
    assert "norm.running_mean" in graph.layouts
    assert "norm.running_mean" not in graph.parameters
    assert all(b.parameter in graph.parameters for b in graph.bundles)


def test_hidden_spaces_are_those_not_pinned():
    _, graph, _ = attention_block()
    assert [s.name for s in graph.hidden] == ["model", "heads", "qk", "v", "mlp"]


def test_counts_neurons_of_products():
    _, graph, _ = attention_block()
    assert graph.neurons(("heads", "qk")) == 8
    assert graph.neurons(()) == 1


def test_tied_parameter_is_found_by_either_name():
    model, graph, _ = attention_block()
    assert graph.layout("head.weight") is graph.layout("embedding.weight")
    views = graph.views(tensors_of(model))
    assert torch.equal(views["head.weight"][0], views["embedding.weight"][0])
    assert [v.shape[1] for v in views["qkv.weight"]] == [8, 8, 12]


def test_unknown_parameter_is_refused():
    _, graph, _ = attention_block()
    with pytest.raises(GraphError, match=r"no parameter `other`; it describes 11 tensors: `emb"):
        graph.layout("other")


def test_is_a_value_that_copies_and_pickles():
    _, graph, _ = attention_block()
    assert graph == attention_block()[1]
    assert graph != residual_convnet()[1]
    assert copy.deepcopy(graph) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_describes_knows_aliases():
    graph = NeuralGraph({}, NeuralGraph.per_tensor({"w": (2,)}).layouts, {"v": "w"})
    assert [graph.describes(name) for name in "wvu"] == [True, True, False]
