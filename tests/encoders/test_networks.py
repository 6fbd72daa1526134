"""Networks to be read: stacking, order, and what does not fit."""

import pytest
import torch
from torch import nn

import ngopt
from ngopt.encoders.networks import Networks, Stack
from ngopt.errors import GraphError


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))


def test_modules_are_stacked_by_architecture_and_answers_keep_their_order() -> None:
    modules = [mlp(4), mlp(5), mlp(4), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))]
    networks = Networks.from_modules(modules, torch.randn(2, 3))
    assert [len(stack) for stack in networks] == [2, 1, 1]
    rows = [stack.parameters["0.bias"].sum(1) for stack in networks]
    expected = torch.stack([module[0].bias.detach().sum() for module in modules])  # type: ignore[index]
    assert torch.equal(networks.in_order(rows), expected)


def test_some_networks_of_a_stack() -> None:
    (stack,) = Networks.from_modules([mlp(4) for _ in range(3)], torch.randn(2, 3))
    chosen = stack.select(torch.tensor([2, 0]))
    assert len(chosen) == 2
    assert torch.equal(chosen.parameters["2.weight"], stack.parameters["2.weight"][[2, 0]])


def test_modules_are_left_as_they_were() -> None:
    module = mlp(4)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    networks = Networks.from_modules([module], torch.randn(2, 3)).to(torch.float64)
    (stack,) = networks
    stack.parameters["0.bias"].zero_()
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


def test_parameters_of_another_model_are_refused() -> None:
    graph = ngopt.trace(mlp(4), torch.randn(2, 3))
    other = {name: p.detach()[None] for name, p in mlp(5).named_parameters()}
    with pytest.raises(GraphError, match="Stack the parameters"):
        Stack(graph, other)
    with pytest.raises(GraphError, match=r"2\.bias"):
        Stack(graph, {name: p for name, p in other.items() if name != "2.bias"})
