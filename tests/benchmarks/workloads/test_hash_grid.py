import pytest
import torch
from torch import nn

from benchmarks.workloads.hash_grid import look_up


@pytest.mark.parametrize("cells", [3, 50])
def test_at_a_corner_a_hash_grid_gives_one_entry_and_between_two_their_mean(cells):
    table = nn.Embedding(64, 2)
    ends = torch.tensor([[1.0, 2.0], [2.0, 2.0], [1.5, 2.0]]) / cells
    first, second, middle = look_up(table, cells, ends)
    assert (table.weight - first).norm(dim=1).min() < 1e-4
    torch.testing.assert_close((first + second) / 2, middle, atol=1e-4, rtol=0)
