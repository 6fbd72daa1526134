import inspect

import pytest
import torch

from ngopt.errors import GraphError
from ngopt.rules.tensor_rule import TensorRule
from tests.rules.rule_inputs import GRAPHS, MLP, draw, trajectory


class Count(TensorRule):
    """Gradient times the number of steps, plus the number of bundles."""

    config = {}  # noqa: RUF012

    def begin(self, parameter, layout):
        layout.check(parameter)
        return {"steps": torch.zeros(())}

    def advance(self, parameter, gradient, state, layout):
        layout.check(parameter)
        steps = state["steps"] + 1
        return gradient * steps + len(layout.bundles), {"steps": steps}


def test_says_how_a_parameter_begins_and_steps():
    assert inspect.isabstract(TensorRule)
    assert TensorRule.__abstractmethods__ == {"config", "begin", "advance"}


def test_each_parameter_moves_by_itself():
    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    some = {name: gradients[name] for name in ("2.bias", "0.weight")}
    rule = Count()
    state = rule.init_state(parameters, MLP)
    state["2.bias"]["steps"] = torch.tensor(4.0)
    updates, after = rule(parameters, some, state, MLP)
    assert list(updates) == ["2.bias", "0.weight"]
    assert torch.equal(updates["2.bias"], 5 * some["2.bias"] + 1)
    assert torch.equal(updates["0.weight"], some["0.weight"] + 1)
    assert {name: item["steps"].item() for name, item in after.items()} == {
        "2.bias": 5,
        "0.weight": 1,
    }


def test_layouts_go_by_any_name_of_a_tied_parameter():
    described = GRAPHS["attention_block"]
    tensor = draw(described, 0)["embedding.weight"]
    (updates,), _ = trajectory(
        Count(), described, {"head.weight": tensor}, [{"head.weight": tensor}]
    )
    assert torch.equal(updates["head.weight"], tensor + 1)
    fused = {"qkv.weight": draw(described, 0)["qkv.weight"]}
    (updates,), _ = trajectory(Count(), described, fused, [fused])
    assert torch.equal(updates["qkv.weight"], fused["qkv.weight"] + 3)


def test_parameters_that_the_graph_does_not_know():
    tensors = {"nothing": torch.zeros(2)}
    with pytest.raises(GraphError, match="no parameter `nothing`"):
        Count().init_state(tensors, MLP)


def test_changes_come_one_by_one():
    asked = []

    class Asked(Count):
        def advance(self, parameter, gradient, state, layout):
            asked.append(layout.name)
            return super().advance(parameter, gradient, state, layout)

    parameters, gradients = draw(MLP, 0), draw(MLP, 1)
    rule = Asked()
    updates = rule.updates(parameters, gradients, rule.init_state(parameters, MLP), MLP)
    assert next(updates).name == "0.weight"
    assert asked == ["0.weight"]
