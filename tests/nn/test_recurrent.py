import pytest
import torch
from torch import nn

from ngopt.nn.recurrent import GRU, LSTMCell
from tests.rules.rule_inputs import randomize


def test_gru_equals_torchs_cell():
    ours, torchs = randomize(GRU(3, 5, torch.Generator())), nn.GRUCell(3, 5)
    torchs.load_state_dict(
        {
            "weight_ih": ours.inputs.weight.T,
            "weight_hh": ours.memory.weight.T,
            "bias_ih": ours.inputs.bias,
            "bias_hh": ours.memory.bias,
        }
    )
    x, memory = torch.randn(7, 3), torch.randn(7, 5)
    torch.testing.assert_close(ours(x, memory), torchs(x, memory))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lstm_equals_torchs_cell(dtype):
    ours = randomize(LSTMCell(3, 5, torch.Generator()))
    theirs = nn.LSTMCell(3, 5, dtype=dtype)
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.inputs.weight.T)
        theirs.weight_hh.copy_(ours.recurrent.weight.T)
        theirs.bias_ih.copy_(ours.inputs.bias)
        theirs.bias_hh.zero_()
    x, hidden, cell = (torch.randn(4, size, dtype=dtype) for size in (3, 5, 5))
    found = ours(x, hidden, cell)
    torch.testing.assert_close(found, theirs(x, (hidden, cell)))


def test_all_but_the_features_are_entries_of_their_own():
    cell = randomize(LSTMCell(2, 3, torch.Generator()))
    x, hidden, kept = (torch.randn(2, 4, size) for size in (2, 3, 3))
    outputs, cells = cell(x, hidden, kept)
    one = cell(x[1, 2], hidden[1, 2], kept[1, 2])
    torch.testing.assert_close((outputs[1, 2], cells[1, 2]), one)
