import torch
from torch import nn

from ngopt.rules.layers.gru import GRU
from tests.rules.rule_inputs import randomize


def test_equals_torch():
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
