import torch

from benchmarks.workloads.ppo import DISCOUNT, TRACE, _advantages


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
