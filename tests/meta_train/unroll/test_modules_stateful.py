import gc
import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy

from meta_train.errors import MetaTrainError
from meta_train.tasks.model_task import ModelTask
from meta_train.unroll.modules import Modules
from meta_train.unroll.options import UnrollOptions
from ngopt.rules import Adam
from tests.meta_train.module_tasks import (
    MEASURES,
    Gated,
    Momentum,
    dropping,
    every_order,
    normalized,
    plain,
    seeded,
    task,
    truncations,
)

higher = pytest.importorskip("higher")


@pytest.mark.parametrize("measure", MEASURES)
def test_each_run_keeps_its_buffers_from_one_truncation_to_the_next(measure):
    given = task(normalized)
    before = {n: t.clone() for n, t in given.module.named_buffers()}
    unroll = Modules(Adam(), UnrollOptions(lr=0.05, measure=measure))
    with torch.no_grad():
        runs = unroll.begin(given, 3, seeded())
        for _ in range(2):
            runs, _ = unroll.advance(runs, 4)
    # One batch at the beginning and one after each step; none that is only measured on.
    assert runs.buffers["1.num_batches_tracked"].tolist() == [9, 9, 9]
    means = runs.buffers["1.running_mean"]
    assert not torch.allclose(means[0], means[1])
    assert all(torch.equal(t, before[n]) for n, t in given.module.named_buffers())


def test_two_short_truncations_are_one_long_one():
    given, unroll = task(normalized), Modules(Adam(), UnrollOptions(lr=0.05))
    ends = []
    for lengths in ((6,), (2, 4)):
        runs = unroll.begin(given, 2, seeded())
        with torch.no_grad():
            for steps in lengths:
                runs, _ = unroll.advance(runs, steps)
        ends.append(runs.tensors())
    assert all(
        torch.equal(ends[0][part][name], ends[1][part][name])
        for part in ("parameters", "buffers")
        for name in ends[0][part]
    )


def test_copies_share_what_dropout_draws_and_other_runs_do_not():
    class Constant(ModelTask):
        def batches(self, context, runs, generator, split="train"):
            super().batches(context, runs, generator, split)
            return tuple(t[:8].expand(runs, *t[:8].shape) for t in self.data.splits[split])

        def problem(self, generator):
            return super().problem(torch.Generator().manual_seed(0))

    given = Constant(dropping, task(plain, torch.float32).data, cross_entropy)
    unroll = Modules(Adam(), UnrollOptions(lr=0.05))
    with torch.no_grad():
        runs = unroll.begin(given, 2, seeded(), copies=2)
        state = torch.get_rng_state()
        _, losses = unroll.advance(runs, 3)
    assert torch.equal(losses[:, :2], losses[:, 2:])
    assert not torch.isclose(losses[:, 0], losses[:, 1]).any()
    assert (losses[1:] != losses[:-1]).all()
    assert torch.equal(state, torch.get_rng_state())


def test_what_a_model_does_may_depend_on_values():
    given, unroll = task(Gated), Modules(Momentum(), UnrollOptions(lr=0.05))
    for runs, losses, gradient in truncations(unroll, given, steps=5, runs=3):
        assert losses.isfinite().all()
        assert any(g.abs().max() > 0 for g in gradient.values())
        taken = runs.buffers["taken"]
    assert taken.shape == (3,)
    assert 0 < taken.sum() < 3 * 11
    assert taken.unique().numel() > 1


def test_meta_gradients_of_stateful_models_are_finite_differences():
    given, rule = task(normalized), Momentum()
    unroll = Modules(rule, UnrollOptions(second_order=True, lr=0.5))

    def loss():
        runs = unroll.begin(given, 2, seeded())
        return unroll.advance(runs, 3).losses.mean()

    found = torch.autograd.grad(loss(), [rule.momentum])[0]
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            rule.momentum += step
            values.append(loss().item())
    assert found.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_theta_may_be_given_and_differ_from_run_to_run():
    given, rule = task(normalized), Momentum()
    unroll = Modules(rule, UnrollOptions(lr=0.1))
    begun = unroll.begin(given, 2, seeded(), copies=2)
    shifts = torch.tensor([0.0, 0.0, 0.5, 0.5], dtype=torch.float64)
    each = {n: torch.stack([t + s for s in shifts]) for n, t in rule.named_parameters()}
    with torch.no_grad():
        _, losses = unroll.advance(begun, 3, each)
    assert not torch.isclose(losses[:, :2], losses[:, 2:]).any()


def test_a_diverged_run_stands_still_and_starts_anew_with_fresh_buffers():
    given, unroll = task(normalized), Modules(Adam(), UnrollOptions(lr=0.05))
    with torch.no_grad():
        runs = unroll.begin(given, 3, seeded())
        lr = torch.tensor([0.05, float("inf"), 0.05])
        runs, losses = unroll.advance(runs.with_tensors({"lr": lr}), 4)
        assert runs.diverged.tolist() == [False, True, False]
        assert losses.isfinite().all()
        assert runs.buffers["1.num_batches_tracked"].tolist() == [5, 1, 5]
        assert all(t.isfinite().all() for t in runs.buffers.values())
        runs = unroll.restart(runs, runs.diverged)
    assert runs.buffers["1.num_batches_tracked"].tolist() == [5, 1, 5]


class Box:
    def __init__(self, tensor):
        self.tensor = tensor


@every_order
@pytest.mark.parametrize("measure", ["next", "same"])
def test_nothing_is_left_of_a_truncation(measure, second_order):
    options = UnrollOptions(measure=measure, second_order=second_order)
    unroll, boxes = Modules(Momentum(), options), weakref.WeakSet()

    def pack(tensor):
        box = Box(tensor.detach())
        boxes.add(box)
        return box

    stack = unroll.begin(task(normalized), 2, seeded())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        after, losses = unroll.advance(stack, 2)
    assert len(boxes) > 20
    stack = after.detached()
    del after, losses
    gc.collect()
    assert len(boxes) == 0


@pytest.mark.usefixtures("few_objects")
def test_models_are_forgotten_with_their_tasks():
    unroll, given = Modules(Adam(), UnrollOptions()), task(normalized)
    unroll.begin(given, 1, seeded())
    assert len(unroll._models) == 1
    del given
    gc.collect()
    assert len(unroll._models) == 0


def test_without_higher_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr("meta_train.unroll.modules.higher", None)
    with pytest.raises(MetaTrainError, match="pip install higher"):
        Modules(Adam())
