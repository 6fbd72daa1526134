from dataclasses import replace

import pytest
import torch

from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import (
    Descent,
    Network,
    Quadratic,
    equal,
    of_runs,
    seeded,
    stripped,
)


def unroll(**options):
    return Stacked(Descent(), UnrollOptions(**options))


def test_runs_begin_with_the_loss_and_gradients_of_their_first_batch():
    task = Quadratic(spread=1.0, noise=1.0)
    runs = unroll().begin(task, 3, seeded())
    ((_, batch),) = task.drawn
    gap = runs.parameters["w"] - runs.context["target"] - batch[0]
    curvature = runs.context["curvature"]
    assert torch.allclose(runs.losses, 0.5 * (curvature * gap.square()).sum((1, 2)))
    assert torch.allclose(runs.gradients["w"], curvature * gap)
    assert torch.equal(runs.unit, runs.losses)
    assert not runs.diverged.any()


def test_learning_rates_are_the_same_without_a_spread():
    assert unroll(lr=0.25).begin(Quadratic(), 5, seeded()).lr.tolist() == [0.25] * 5


def test_learning_rates_are_spread_log_uniformly_around_theirs():
    lr = unroll(lr=0.01, lr_spread=10.0).begin(Quadratic(), 400, seeded()).lr
    exponents = lr.log10() + 2
    assert exponents.abs().max() <= 1 + 1e-6
    # Quarters of the range: each is expected to hold 100, with a standard deviation of 8.7.
    assert exponents.histc(4, -1, 1).sub(100).abs().max() < 35


def test_copies_share_a_learning_rate():
    lr = unroll(lr_spread=10.0).begin(Quadratic(), 3, seeded(), copies=2).lr
    assert torch.equal(lr[:3], lr[3:])
    assert len(set(lr.tolist())) == 3


def test_all_that_is_random_follows_from_the_generator():
    first, again, other = (
        unroll(lr_spread=2.0).begin(Network(), 3, seeded(seed)).tensors() for seed in (0, 0, 1)
    )
    assert equal(first, again)
    assert not torch.equal(first["parameters"]["0.weight"], other["parameters"]["0.weight"])


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    started = unroll().begin(Network(), 2, seeded())
    unroll().advance(started, 2)
    unroll().restart(started, torch.tensor([True, False]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("copies", [1, 2])
def test_only_the_chosen_runs_start_anew(copies):
    stacked, task = unroll(lr=0.1, lr_spread=4.0), Network()
    with torch.no_grad():
        runs = stacked.advance(stacked.begin(task, 3, seeded(), copies), 3).runs
    runs = replace(runs, diverged=torch.tensor([False, True, False] * copies))
    state = runs.generator.get_state()
    restarted = stacked.restart(runs, runs.diverged)
    fresh = stacked.begin(task, 3, seeded().set_state(state), copies)
    old = torch.tensor([0, 2, 3, 5][: 2 * copies])
    new = torch.tensor([1, 4][:copies])
    assert equal(of_runs(restarted.tensors(), old), of_runs(runs.tensors(), old))
    assert equal(of_runs(restarted.tensors(), new), of_runs(fresh.tensors(), new))
    assert not restarted.diverged.any()
    assert not torch.equal(restarted.lr[1], runs.lr[1])
    assert torch.equal(restarted.lr[:3], restarted.lr[-3:])


def test_an_unrolls_start_does_not_depend_on_the_measure_but_for_the_batch_it_needs():
    same, after = (unroll(measure=m).begin(Network(), 2, seeded()) for m in ("same", "next"))
    assert equal(stripped(same, "batch"), stripped(after, "batch"))
    assert list(same.batch) == ["0", "1"]
    assert after.batch == {}


def test_a_run_whose_loss_cannot_be_a_unit_has_diverged():
    task = Quadratic()
    task.loss = lambda parameters, context, batch: 0 * parameters["w"].sum()
    runs = unroll().begin(task, 2, seeded())
    assert runs.diverged.all()
    assert torch.equal(runs.unit, torch.ones(2, dtype=torch.float64))
