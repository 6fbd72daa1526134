import torch

from benchmarks.workloads.dqn import Memory


def test_memory_keeps_the_latest():
    memory = Memory(4)
    for number in range(6):
        numbers = torch.full((1,), float(number))
        memory.add(numbers.expand(1, 4), numbers, numbers, numbers.expand(1, 4), numbers > 2)
    assert sorted(memory.rewards.tolist()) == [2, 3, 4, 5]
    _, actions, rewards, _, fallen = memory.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(actions.float(), rewards)
    assert torch.equal(fallen.bool(), rewards > 2)
