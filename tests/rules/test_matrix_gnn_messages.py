import torch

from ngopt.features.bundle_statistics import MATRICES
from ngopt.rules.matrix_gnn import MessageRound
from tests.rules.rule_inputs import randomize

WIDTH = 6


def test_states_mix_with_what_is_said_and_stay_bounded():
    mix = randomize(MessageRound(WIDTH, torch.Generator().manual_seed(0)), size=3.0)
    states, said = torch.randn(2, 5, WIDTH), 10 * torch.randn(2, 5, WIDTH)
    found = mix(states, said)
    torch.testing.assert_close(found, torch.tanh(mix.keep(states) + said))
    assert found.abs().max() <= 1
    assert mix.to_out(torch.randn(3, MATRICES * WIDTH)).shape == (3, WIDTH)
    assert mix.to_in(torch.zeros(3, MATRICES * WIDTH)).abs().max() == 0
