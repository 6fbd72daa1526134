import pytest
import torch

from ngopt.errors import GradientError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.step_inputs import gather_inputs, select_parameters
from ngopt.optim.update import Options
from ngopt.rules.adam import Adam

GROUPS = [
    {"params": [torch.ones(2), torch.ones(3)], "lr": torch.tensor([0.5]), "weight_decay": 0.1},
    {"params": [torch.ones(4)], "lr": 2.0, "weight_decay": 0.0, "maximize": True},
]
NAMES = [["a", "b"], ["c"]]


@pytest.fixture
def parameters():
    a, b, c = (parameter for group in GROUPS for parameter in group["params"])
    a.grad, b.grad, c.grad = torch.full((2,), 3.0), None, torch.full((4,), 5.0)
    return {"a": a, "b": b, "c": c}


def test_parameters_without_gradient_are_not_selected(parameters):
    found, options = select_parameters(GROUPS, NAMES, (2.0, 0.5), (None, None))
    assert list(found) == list(options) == ["a", "c"]
    assert all(found[name] is parameters[name] for name in found)
    assert options["a"] == Options(torch.tensor(0.5), 0.1, annealing_factor=2.0)
    assert options["a"].lr.shape == ()
    assert options["c"] == Options(2.0, maximize=True, annealing_factor=0.5)


def test_a_sparse_gradient_is_refused_by_name(parameters):
    parameters["b"].grad = torch.ones(3).to_sparse()
    with pytest.raises(GradientError, match="`b`"):
        select_parameters(GROUPS, NAMES, (2.0, 0.5), (None, None))


def test_only_what_has_no_state_begins_anew(parameters):
    found, _ = select_parameters(GROUPS, NAMES, (2.0, 0.5), (None, None))
    graph, rule = NeuralGraph.per_tensor({"a": (2,), "c": (4,)}), Adam()
    fresh = gather_inputs(found, {}, graph, rule, torch.device("cpu"))
    later = {key: value + 7 for key, value in fresh.state["a"].items()}
    given = gather_inputs(found, {parameters["a"]: later}, graph, rule, torch.device("cpu"))
    assert list(given.state) == list(given.params) == list(given.grads) == ["a", "c"]
    assert given.params["a"] is parameters["a"]
    assert given.grads["c"] is parameters["c"].grad
    assert all(given.state["a"][key] is value for key, value in later.items())
    assert all(torch.equal(given.state["c"][key], value) for key, value in fresh.state["c"].items())
    meta = gather_inputs(found, {parameters["a"]: later}, graph, rule, torch.device("meta"))
    tensors = [*meta.params.values(), *meta.grads.values(), *meta.state["a"].values()]
    assert all(tensor.is_meta for tensor in tensors)
