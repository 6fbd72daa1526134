import pytest
import torch
from torch import nn

from ngopt.errors import GradientError, GraphError, OptionError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim import parameter_groups


def test_every_form_becomes_groups():
    model = nn.Linear(2, 1)
    weight, bias = model.parameters()
    assert parameter_groups.as_groups(model, None) == [{"model": model}]
    assert parameter_groups.as_groups(model.parameters(), None) == [{"params": [weight, bias]}]
    named = parameter_groups.as_groups(model.named_parameters(), model)
    assert named == [{"model": model, "params": [("weight", weight), ("bias", bias)]}]
    groups = [{"params": [weight], "lr": 1.0}, {"params": bias, "model": None}]
    assert parameter_groups.as_groups(iter(groups), model)[0] == {"model": model, **groups[0]}
    assert parameter_groups.as_groups(iter(groups), model)[1]["model"] is None
    assert parameter_groups.as_groups([], model) == []


def test_a_group_is_copied():
    weight = nn.Parameter(torch.ones(2))
    original = {"params": weight, "lr": 0.5, "model": None}
    group, model = parameter_groups.as_group(original)
    assert group == {"params": [weight], "lr": 0.5}
    assert model is None
    assert original["params"] is weight


def test_a_group_of_a_model_has_its_parameters():
    linear = nn.Linear(2, 1)
    group, model = parameter_groups.as_group({"model": linear})
    assert model is linear
    assert [id(p) for p in group["params"]] == [id(p) for p in linear.parameters()]


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ([1], TypeError, "must be a dict"),
        ({"params": {torch.ones(2)}}, TypeError, "order of a set"),
        ({"params": ["weight"]}, TypeError, "only optimize Tensors, but got a str"),
        ({"params": [("weight", 1.0)]}, TypeError, "got a float"),
        ({"model": nn.ReLU()}, OptionError, "ReLU.. has no parameters"),
        ({"lr": 1.0}, OptionError, "nothing to optimize"),
    ],
)
def test_groups_that_make_no_sense(group, error, message):
    with pytest.raises(error, match=message):
        parameter_groups.as_group(group)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr=-1.0 makes no sense"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": torch.tensor(-1.0)}, "lr=.*-1"),
        ({"lr": torch.ones(2)}, r"1-element, but has shape \(2,\)"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 makes no sense"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(OptionError, match=message):
        parameter_groups.check_group(options, [], set())


def test_duplicates_and_complex_parameters():
    weight = nn.Parameter(torch.ones(2))
    parameter_groups.check_group({}, [weight], set())
    for tensors, held in (([weight, weight], set()), ([weight], {weight})):
        with pytest.raises(OptionError, match=r"shape \(2,\) is given twice"):
            parameter_groups.check_group({}, tensors, held)
    with pytest.raises(GradientError, match=r"complex.*\n.*view_as_complex"):
        parameter_groups.check_group({}, [torch.ones(2, dtype=torch.complex64)], set())


def test_prefixes_tell_models_apart_and_keep_one_model_together():
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    assert parameter_groups.prefix(first, {}) == ""
    held = {"weight": first.weight}
    assert parameter_groups.prefix(first, held) == ""
    prefix = parameter_groups.prefix(second, held)
    assert prefix
    assert parameter_groups.prefix(second, {**held, f"{prefix}bias": second.bias}) == prefix


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_model_whose_names_are_of_other_tensors_now_gets_another_prefix(place):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    held = dict(model.named_parameters())
    assert parameter_groups.prefix(model, held) == ""
    model.insert(place, nn.Linear(2, 2))
    assert (parameter_groups.prefix(model, held) == "") == (place == 2)


def test_names_in_a_model():
    model = nn.Linear(2, 1)
    known = parameter_groups.names_in_model(model, "p:", [model.bias])
    assert known == {model.weight: "p:weight", model.bias: "p:bias"}
    with pytest.raises(GraphError, match="none of the parameters belongs to the Linear"):
        parameter_groups.names_in_model(model, "", [torch.ones(2)])


def test_names_by_order_need_the_same_shapes():
    graph = NeuralGraph.per_tensor({"weight": (1, 2), "bias": (1,)})
    weight, bias = torch.ones(1, 2), torch.ones(1)
    assert parameter_groups.names_by_order([weight, bias], graph) == {
        weight: "weight",
        bias: "bias",
    }
    for tensors in ([bias, weight], [weight], [weight, bias, bias]):
        with pytest.raises(GraphError, match="not the same by number, order and shape"):
            parameter_groups.names_by_order(tensors, graph)


def test_a_model_knows_names_before_a_graph_does():
    model, graph = nn.Linear(2, 1), NeuralGraph.per_tensor({"a": (1, 2), "b": (1,)})
    nameless = [(None, tensor) for tensor in model.parameters()]
    in_model = {model.weight: "p:weight", model.bias: "p:bias"}
    assert parameter_groups.known_names(nameless, model, "p:", graph) == in_model
    assert parameter_groups.known_names(nameless, None, "", graph) == {
        model.weight: "a",
        model.bias: "b",
    }
    assert parameter_groups.known_names([("w", model.weight), *nameless[1:]], None, "", graph) == {}
    assert parameter_groups.known_names(nameless, None, "", None) == {}


def test_names_are_unique_whatever_the_user_calls_them():
    known, alone, twin = (torch.ones(1) for _ in range(3))
    given = [("anything", known), (None, alone), ("weight", twin)]
    names = parameter_groups.name_all(given, {known: "weight"}, ["bias"])
    assert names[0] == "weight"
    assert len({*names, "bias"}) == 4
    more = parameter_groups.name_all([("weight", torch.ones(1)), (None, torch.ones(1))], {}, names)
    assert len({*names, *more}) == 5


def test_sparse_and_complex_gradients():
    parameter_groups.check_gradient("w", torch.ones(2))
    with pytest.raises(GradientError, match=r"`w`.*is sparse.*\n.*sparse=False"):
        parameter_groups.check_gradient("w", torch.ones(2).to_sparse())
    with pytest.raises(GradientError, match=r"`w`.*is complex"):
        parameter_groups.check_gradient("w", torch.ones(2, dtype=torch.complex64))
