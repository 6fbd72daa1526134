from dataclasses import replace
from functools import cached_property

import pytest
import torch

from ngopt.errors import GraphError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.permute import permute
from ngopt.graph.trace import trace
from ngopt.optim.joined_graph import (
    EMPTY,
    check_fit,
    complete,
    join,
    rename_parameters,
    without_stale,
)
from tests.contract import Small, batch


def _traced():
    model = Small()
    return model, trace(model, batch()[0])


def test_renamed_graph_is_the_same_graph():
    model, graph = _traced()
    other = rename_parameters(graph, lambda name: f"a:{name}", "a:")
    params = {name: p.detach() for name, p in model.named_parameters()}
    spaces = {space.name for space in graph.hidden}
    assert {space.name for space in other.hidden} == {f"a:{name}" for name in spaces}
    permuted = permute(graph, params, 3)
    assert not torch.equal(permuted["linear.weight"], params["linear.weight"])
    order = {space.name: i for i, space in enumerate(graph.hidden)}
    assert [order[space.name.removeprefix("a:")] for space in other.hidden] == list(
        range(len(order))
    )
    renamed_permuted = permute(other, {f"a:{name}": p for name, p in params.items()}, 3)
    for name, tensor in permuted.items():
        assert torch.equal(tensor, renamed_permuted[f"a:{name}"])
    assert (
        rename_parameters(other, lambda name: name.removeprefix("a:")).layouts.keys()
        == graph.layouts.keys()
    )


def test_aliases_are_renamed():
    graph = NeuralGraph({}, NeuralGraph.per_tensor({"w": (2,)}).layouts, {"v": "w"})
    other = rename_parameters(graph, str.upper)
    assert other.aliases == {"V": "W"}
    assert other.layout("V").name == "W"
    assert other.layout("V").bundles[0].parameter == "W"


def test_joined_keeps_both_and_prefers_the_second():
    first = NeuralGraph.per_tensor({"a": (2,), "b": (3,)})
    second = NeuralGraph.per_tensor({"b": (5,), "c": (4,)})
    both = join(first, second)
    assert {name: layout.shape for name, layout in both.layouts.items()} == {
        "a": (2,),
        "b": (5,),
        "c": (4,),
    }
    assert join(EMPTY, first) == join(first, EMPTY)
    assert join(EMPTY, first).layouts == first.layouts


def test_nothing_is_left_to_compute_in_a_compiled_step():
    graph = join(EMPTY, NeuralGraph.per_tensor({"a": (2, 3)}))
    for part in (graph, graph.bundles[0]):
        cached = {n for n, v in vars(type(part)).items() if isinstance(v, cached_property)}
        assert cached
        assert cached <= vars(part).keys()


def test_joined_with_nothing_stays_verified():
    model = Small().eval()
    graph = trace(model, batch()[0], verify=True)
    assert join(EMPTY, graph).verified
    assert complete(graph, {"new": torch.ones(2)}).verified
    assert not join(EMPTY, _traced()[1]).verified


def test_complete_adds_what_is_missing_only():
    model, graph = _traced()
    tensors = dict(model.named_parameters())
    assert complete(graph, tensors) is graph
    more = complete(graph, {**tensors, "extra": torch.ones(2, 3)})
    assert more.layout("extra").shape == (2, 3)
    assert more.layout("linear.weight") == graph.layout("linear.weight")
    assert more.hidden == graph.hidden


def test_complete_describes_a_tensor_of_another_shape_anew():
    _, graph = _traced()
    other = complete(graph, {"linear.weight": torch.ones(12)})
    assert other.layout("linear.weight").shape == (12,)
    assert other.layout("linear.bias") == graph.layout("linear.bias")


def test_what_fits_no_more_is_left_out_with_its_other_names():
    graph = replace(NeuralGraph.per_tensor({"w": (2,), "x": (3,)}), aliases={"v": "w"})
    assert (
        without_stale(graph, {"v": torch.ones(2), "x": torch.ones(3), "y": torch.ones(1)}) is graph
    )
    left = without_stale(graph, {"v": torch.ones(5)})
    assert list(left.layouts) == ["x"]
    assert not left.aliases


def test_check_fit():
    model, graph = _traced()
    tensors = dict(model.named_parameters())
    check_fit(graph, tensors)
    with pytest.raises(GraphError, match="no parameter `other`"):
        check_fit(graph, {"other": torch.ones(2)})
    with pytest.raises(GraphError, match=r"with shape \(3,\), but the tensor has shape \(4,\)"):
        check_fit(graph, {"linear.bias": torch.ones(4)})
    with pytest.raises(GraphError, match=r"`norm\.running_mean` as a state buffer"):
        check_fit(graph, {"norm.running_mean": torch.ones(4)})
