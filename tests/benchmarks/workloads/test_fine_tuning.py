import torch
from torch import nn

from benchmarks.workloads.fine_tuning import LowRank


def test_a_low_rank_change_begins_at_zero_and_leaves_its_base_frozen():
    base = nn.Linear(5, 4)
    changed = LowRank(base, rank=2, scale=3.0).eval()  # without dropout
    x = torch.randn(7, 5)
    assert torch.equal(changed(x), base(x))
    changed(x).sum().backward()
    assert base.weight.grad is None
    assert base.bias.grad is None
    assert changed.up.weight.grad.any()
    nn.init.ones_(changed.up.weight)
    merged = base.weight + 3.0 * changed.up.weight @ changed.down.weight
    torch.testing.assert_close(changed(x), nn.functional.linear(x, merged, base.bias))
