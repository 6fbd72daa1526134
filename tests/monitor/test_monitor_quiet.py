"""The monitor disturbs no run, however odd the run is."""

import copy
import gc
import math
from functools import partial

import pytest
import torch
from torch import nn

from ngopt import Monitor
from ngopt.errors import GradientError
from tests.contract import Small, assert_same, backward, copy_of, every_case, flat_state
from tests.monitor.monitored import ours, read, run, series


@every_case
@pytest.mark.parametrize("everything", [False, True])
def test_a_run_is_the_same_to_the_last_bit(case, everything, tmp_path):
    model = Small()
    twin = copy.deepcopy(model)
    optimizer, other = case.build(model), case.build(twin)
    run(twin, other, 5)
    before = torch.get_rng_state()
    options = {"per_tensor": everything, "angle_to_adam": everything}
    with Monitor(optimizer, tmp_path, every=2, pictures=2, **options) as watcher:
        run(model, optimizer, 5, watcher)
    assert_same(copy_of(model), copy_of(twin))
    assert_same(flat_state(optimizer), flat_state(other))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_closure(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=1, per_tensor=True, angle_to_adam=True) as watcher:
        for seed in range(2):
            watcher.log(loss=optimizer.step(partial(_closure, model, seed)))
    tags = read(tmp_path).Tags()["scalars"]
    assert {f"4 update RMS/{name}" for name in copy_of(model)} <= set(tags)


def _closure(model, seed):
    model.zero_grad()
    x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    loss = model(x).square().mean()
    loss.backward()
    return loss


def test_sparse_gradients(tmp_path):
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = torch.optim.SparseAdam(embedding.named_parameters())
    embedding(torch.tensor([1])).sum().backward()
    with Monitor(optimizer, tmp_path, per_tensor=True):
        optimizer.step()
    assert series(tmp_path, "5 gradient RMS/weight") == {0: pytest.approx(0.5)}


def test_gradients_that_are_not_finite(tmp_path):
    model = Small()
    optimizer = ours(model)
    backward(model)
    model.linear.bias.grad[0] = math.nan
    with Monitor(optimizer, tmp_path, per_tensor=True, angle_to_adam=True):
        optimizer.step()
    assert series(tmp_path, "2 optimizer/skipped_steps") == {0: 1}
    assert series(tmp_path, "4 update RMS/linear.weight") == {0: 0}
    assert math.isnan(series(tmp_path, "5 gradient RMS/linear.bias")[0])


def test_a_step_that_fails_ends_the_watch_at_the_next(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=1):
        backward(model)
        kept = model.linear.bias.grad
        model.linear.bias.grad = kept.to_sparse()
        with pytest.raises(GradientError, match="sparse"):
            optimizer.step()
        model.linear.bias.grad = kept
        optimizer.step()
        assert optimizer.rule.on_diagnostics is None
    assert list(series(tmp_path, "2 optimizer/lr")) == [0]


def test_lazy_modules(tmp_path):
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    with Monitor(optimizer, tmp_path, every=1, per_tensor=True):
        for _ in range(2):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert list(series(tmp_path, "4 update RMS/0.weight")) == [0, 1]


def test_no_copies_are_kept(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=2) as watcher:
        for _ in range(2):
            run(model, optimizer, 1)
            assert not watcher._copies
            assert watcher._seen is None


def test_steps_that_are_not_written_wait_for_nothing(tmp_path, monkeypatch):
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(optimizer, tmp_path, every=10, angle_to_adam=True) as watcher:
        loss = run(model, optimizer, 1, watcher)[0]
        monkeypatch.setattr(torch.Tensor, "item", None)
        monkeypatch.setattr(torch.Tensor, "tolist", None)
        monkeypatch.setattr(torch.Tensor, "cpu", None)
        optimizer.step()
        watcher.log(loss=loss)
    assert list(series(tmp_path, "1 training/loss")) == [0]


def test_closing_leaves_the_optimizer_alone(tmp_path):
    model = Small()
    optimizer = ours(model)
    watcher = Monitor(optimizer, tmp_path, every=1)
    run(model, optimizer, 1, watcher)
    watcher.close()
    watcher.close()
    run(model, optimizer, 1, watcher)
    assert list(series(tmp_path, "1 training/loss")) == [0]
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_nothing_is_lost_if_nobody_closes_it(tmp_path):
    model = Small()
    optimizer = ours(model)
    watcher = Monitor(optimizer, tmp_path)
    run(model, optimizer, 1, watcher)
    writer = watcher._writer
    del optimizer, watcher
    gc.collect()
    assert writer.file_writer is None  # as it is once closed
    assert list(series(tmp_path, "1 training/loss")) == [0]


def test_copies_of_the_optimizer_are_not_monitored(tmp_path):
    model = Small()
    optimizer = ours(model)
    with Monitor(optimizer, tmp_path, every=1):
        run(model, optimizer, 1)
        twin = copy.deepcopy(optimizer)
        twin.step()
    assert list(series(tmp_path, "2 optimizer/lr")) == [0]
