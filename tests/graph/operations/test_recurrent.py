import pytest
import torch
from torch import nn

from ngopt.graph.trace import trace
from tests.graph.operations.between import words


class Read(nn.Module):
    """A recurrent layer, whose results (states of one layer too) are read out."""

    def __init__(self, layer: nn.Module, state: bool = False) -> None:
        super().__init__()
        self.layer, self.state = layer, state
        self.initial = nn.Parameter(torch.randn(1, 3, 12))
        self.last = nn.LazyLinear(3)

    def forward(self, x):
        out, state = self.layer(x, self.initial) if self.state else self.layer(x)
        states = state if isinstance(state, tuple) else (state,)
        parts = [out, *states] if len(states[0]) == 1 else [out]
        return self.last(torch.cat([part.flatten() for part in parts]))


def hidden(layer: nn.Module, state: bool = False) -> str:
    net, x = Read(layer, state), torch.randn(3, 4, 5)
    net(x)
    graph = trace(net, x)
    assert trace(net, x, verify=True).spaces == graph.spaces
    assert graph.unknown == ()
    return words(graph)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_one_space_for_each_layer_and_direction(kind):
    assert hidden(kind(5, 12, batch_first=True)) == "12"
    assert hidden(kind(5, 7, num_layers=2, bidirectional=True)) == "7, 7, 7, 7"
    assert hidden(kind(5, 7, bias=False)) == "7"


def test_an_initial_state_runs_over_the_neurons():
    assert hidden(nn.GRU(5, 12, batch_first=True), state=True) == "12"


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_projections_are_neurons_of_their_own():
    assert hidden(nn.LSTM(5, 12, proj_size=7)) == "12, 7"


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell])
def test_cells(kind):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.last = kind(5, 12), nn.Linear(12, 3)

        def forward(self, x):
            return self.last(self.cell(x, self.cell(x)))

    graph = trace(Twice(), torch.randn(4, 5), verify=True)
    assert words(graph) == "12"
