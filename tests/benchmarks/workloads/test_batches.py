import torch

from benchmarks.workloads.batches import epochs


def test_an_epoch_has_each_row_once_and_rows_stay_together():
    rows = torch.arange(10)
    batches = epochs([rows, 2 * rows], 5, torch.Generator().manual_seed(0))
    orders = []
    for _ in range(2):
        epoch = [next(batches) for _ in range(2)]
        assert all(torch.equal(2 * x, y) for x, y in epoch)
        orders.append(torch.cat([x for x, _ in epoch]))
    assert all(order.sort().values.equal(rows) for order in orders)
    assert not torch.equal(*orders)


def test_a_smaller_last_batch_is_dropped():
    batches = epochs([torch.arange(7)], 3, torch.Generator().manual_seed(0))
    assert {len(next(batches)[0]) for _ in range(6)} == {3}
