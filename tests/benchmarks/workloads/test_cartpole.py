import pytest
import torch
from torch import nn

from benchmarks.workloads.cartpole import EPISODES, Poles, mean_return

pytest.importorskip("gymnasium")


def test_the_step_after_an_end_is_no_experience():
    poles = Poles(3, seed=0)
    always_right = torch.ones(3, dtype=torch.int64)
    ended, ends = poles.ended, 0
    for _ in range(40):
        before = ended
        _, fallen, valid = poles.step(always_right)
        assert torch.equal(valid, ~before)
        assert not (fallen & before).any()
        # The state that the pole fell in is seen, not that of the next episode.
        assert torch.equal(poles.states[:, 2].abs() > 0.2094, fallen)
        ended = poles.ended
        ends += int(ended.sum())
    assert ends > 6


def test_a_pole_pushed_to_one_side_falls_soon_and_a_balanced_one_stays():
    model = nn.Identity()
    pushed = mean_return(model, lambda states: torch.ones(EPISODES, dtype=torch.int64))
    assert 8 < pushed < 11

    def balance(states):
        return (states @ torch.tensor([0.1, 0.3, 3.0, 1.0]) > 0).long()

    assert mean_return(model, balance) == 500
