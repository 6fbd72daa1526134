import pytest
import torch
from torch import nn

from benchmarks.workloads.cartpole import EPISODES, Poles, mean_return
from benchmarks.workloads.dqn import Memory
from benchmarks.workloads.ppo import DISCOUNT, TRACE, _advantages

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


def test_memory_keeps_the_latest():
    memory = Memory(4)
    for number in range(6):
        numbers = torch.full((1,), float(number))
        memory.add(numbers.expand(1, 4), numbers, numbers, numbers.expand(1, 4), numbers > 2)
    assert sorted(memory.rewards.tolist()) == [2, 3, 4, 5]
    _, actions, rewards, _, fallen = memory.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(actions.float(), rewards)
    assert torch.equal(fallen.bool(), rewards > 2)


def test_advantages_are_discounted_sums_within_episodes():
    rewards, values = torch.rand(6, 1), torch.rand(7, 1)
    fallen, ended = torch.zeros(2, 6, 1, dtype=torch.bool)
    fallen[1] = ended[1] = True
    ended[3] = True
    found = _advantages(rewards, values, fallen, ended)
    errors = rewards + DISCOUNT * values[1:] * ~fallen - values[:-1]
    for start, end in ((0, 2), (2, 4), (4, 6)):
        for i in range(start, end):
            wanted = sum((DISCOUNT * TRACE) ** (j - i) * errors[j] for j in range(i, end))
            torch.testing.assert_close(found[i], wanted)
    assert errors[1] == rewards[1] - values[1]
