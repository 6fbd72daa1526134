from itertools import pairwise

import pytest
import torch
from torch import nn

from ngopt import NeuralGraph, trace
from ngopt.graph.nodes import shortest_path


class Residual(nn.Module):
    """Blocks of two layers, each beside a connection that leads past it."""

    def __init__(self, blocks):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(blocks)
        )

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def plain(hidden):
    """A perceptron with so many hidden layers."""
    sizes = [3, *[5] * hidden, 2]
    return nn.Sequential(*(m for pair in pairwise(sizes) for m in (nn.Linear(*pair), nn.ReLU())))


@pytest.mark.parametrize("hidden", [0, 1, 4, 20])
def test_plain_networks_have_no_path_but_through_all_layers(hidden):
    assert shortest_path(trace(plain(hidden), torch.randn(2, 3))) == hidden + 1


@pytest.mark.parametrize("blocks", [1, 5])
def test_residual_connections_lead_past_layers(blocks):
    assert shortest_path(trace(Residual(blocks), torch.randn(2, 3))) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_count_and_norms_do_not(channels):
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(),
        nn.Linear(6 * 16, 10),
    )  # fmt: skip
    assert shortest_path(trace(model, torch.randn(2, channels, 8, 8))) == 3


def test_lone_tensors_are_one_layer_deep():
    assert shortest_path(NeuralGraph.per_tensor({"w": (3, 2), "b": (3,), "s": ()})) == 1
    assert shortest_path(NeuralGraph.per_tensor({})) == 1


def test_is_kept_by_the_graph():
    graph = trace(plain(2), torch.randn(2, 3))
    assert graph.shortest_path == 3
