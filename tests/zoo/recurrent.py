"""Recurrent networks: hidden size once per layer and direction, gates are no neurons."""

import torch
from torch import Tensor, nn

from tests.zoo.entry import Model, entry


class _ReadsOutput(nn.Module):
    """Reads the outputs of the last time step."""

    def __init__(self, layer: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.last = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x)
        return self.last(output[:, -1])


class _ReadsState(nn.Module):
    """Reads the final hidden state of the last layer."""

    def __init__(self, layer: nn.LSTM) -> None:
        super().__init__()
        self.layer = layer
        self.last = nn.Linear(layer.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.layer(x)
        return self.last(hidden[-1])


def _sequence() -> tuple[Tensor]:
    return (torch.randn(2, 4, 5),)


@entry("12", pinned="last.bias")
def rnn() -> Model:
    return _ReadsOutput(nn.RNN(5, 12, batch_first=True), 12), _sequence(), {}


@entry("12", pinned="last.bias")
def lstm() -> Model:
    return _ReadsOutput(nn.LSTM(5, 12, batch_first=True), 12), _sequence(), {}


@entry("12", pinned="last.bias")
def gru() -> Model:
    return _ReadsOutput(nn.GRU(5, 12, batch_first=True), 12), _sequence(), {}


@entry("6", "6", "6", "6", pinned="last.bias")
def lstm_bidirectional() -> Model:
    layer = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
    return _ReadsOutput(layer, 12), _sequence(), {}


@entry("12", "7", pinned="last.bias")
def lstm_projected() -> Model:
    return _ReadsOutput(nn.LSTM(5, 12, proj_size=7, batch_first=True), 7), _sequence(), {}


@entry("12", "12", pinned="last.bias")
def lstm_last_state() -> Model:
    layer = nn.LSTM(5, 12, num_layers=2, dropout=0.1)
    return _ReadsState(layer), (torch.randn(4, 2, 5),), {}


class _Cell(nn.Module):
    """A cell in a loop over time, from a zero state."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell = cell
        self.last = nn.Linear(cell.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(len(x), self.cell.hidden_size)
        state = (hidden, hidden) if isinstance(self.cell, nn.LSTMCell) else hidden
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.last(state[0] if isinstance(state, tuple) else state)


@entry("12", pinned="last.bias")
def lstm_cell() -> Model:
    return _Cell(nn.LSTMCell(5, 12)), _sequence(), {}


@entry("12", pinned="last.bias")
def gru_cell() -> Model:
    return _Cell(nn.GRUCell(5, 12)), _sequence(), {}


@entry("12", pinned="last.bias")
def rnn_cell() -> Model:
    return _Cell(nn.RNNCell(5, 12)), _sequence(), {}


class _HandLSTM(nn.Module):
    """An LSTM by hand: one linear layer of the input and the state, its gates chunked."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(5 + 12, 4 * 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = torch.zeros(len(x), 12, dtype=x.dtype)
        for now in x.unbind(1):
            i, f, g, o = self.gates(torch.cat([now, hidden], dim=-1)).chunk(4, dim=-1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return self.last(hidden)


@entry("12", pinned="last.bias")
def lstm_by_hand() -> Model:
    return _HandLSTM(), _sequence(), {}


class _LearnedState(nn.Module):
    """A GRU that starts from a learned state, one for all sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 1, 12))
        self.layer = nn.GRU(5, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x, self.start.expand(-1, x.shape[1], -1).contiguous())
        return self.last(output)


@entry("12", pinned="last.bias")
def gru_learned_state() -> Model:
    return _LearnedState(), (torch.randn(4, 2, 5),), {}
