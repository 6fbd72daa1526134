import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from meta_train.tasks.rnn_lm import CELLS
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize(("name", "theirs"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_cells_are_those_of_torch(name, theirs):
    ours, theirs = CELLS[name](5), theirs(5, 5, batch_first=True)
    with torch.no_grad():
        for layer, suffix in ((ours.into, "ih_l0"), (ours.hidden, "hh_l0")):
            layer.weight.copy_(getattr(theirs, f"weight_{suffix}"))
            layer.bias.copy_(getattr(theirs, f"bias_{suffix}"))
    x = torch.randn(3, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_characters_are_predicted_from_those_before(cell):
    task = task_of(f"rnn_lm:cell={cell},depth=2,width=8")
    tokens = torch.randint(96, (1, 10))
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] + 1) % 96
    same = (task.module(tokens) == task.module(changed)).all(-1)[0]
    assert same.tolist() == [True] * 6 + [False] * 4


def test_an_unknown_cell():
    with pytest.raises(MetaTrainError, match=r"no recurrent cell `mgu`.\n.*gru, lstm, rnn"):
        family_of("rnn_lm:cell=mgu").sample(torch.Generator())
