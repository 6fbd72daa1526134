from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation import NoisyLabels
from meta_train.tasks.model_task import ModelTask
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules import FF, SGDM, Adam
from tests.meta_train.slow_unroll import slow_unroll
from tests.meta_train.small_tasks import (
    MEASURES,
    SMALL_RULES,
    Descent,
    Network,
    Quadratic,
    difference,
    equal,
    of_runs,
    seeded,
    small_rule,
    stripped,
)


class Forgetful(Quadratic):
    """A quadratic whose loss forgets some of the weights."""

    def loss(self, parameters, context, batch):
        return super().loss({"w": dropout(parameters["w"], 0.5)}, context, batch)


def advanced(unroll, task, steps, runs=3, copies=1):
    """Where runs begin and end, and the losses on the way."""
    begun = unroll.begin(task, runs, seeded(), copies)
    with torch.no_grad():
        return begun, *unroll.advance(begun, steps)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", SMALL_RULES)
def test_a_stack_is_its_runs_one_by_one(name, measure):
    rule, task = small_rule(name), Network()
    options = UnrollOptions(lr=0.05, lr_spread=4.0, weight_decay=0.1, measure=measure)
    begun, runs, losses = advanced(Stacked(rule, options), task, 4)
    for index in range(3):
        slow = slow_unroll(rule, options, begun, index, task.drawn, 4)
        assert difference(of_runs(runs.parameters, index), slow.parameters) < 1e-6
        assert difference(of_runs(runs.state, index), slow.state) < 1e-6
        assert difference(losses[:, index], torch.stack(slow.losses)) < 1e-6


def test_runs_in_single_precision_stay_in_it():
    rule, options, task = Adam(), UnrollOptions(lr=0.05), Network(dtype=torch.float32)
    begun, _, losses = advanced(Stacked(rule, options), task, 6)
    assert losses.dtype == torch.float32
    for index in range(3):
        slow = slow_unroll(rule, options, begun, index, task.drawn, 6)
        assert difference(losses[:, index], torch.stack(slow.losses)) < 1e-6


@pytest.mark.parametrize("measure", MEASURES)
def test_losses_are_measured_on_the_batch_that_is_asked_for(measure):
    task = Quadratic(noise=1.0)
    unroll = Stacked(Descent(), UnrollOptions(lr=0.5, measure=measure))
    begun, runs, losses = advanced(unroll, task, 1)
    splits = [split for split, _ in task.drawn]
    assert splits == ["train", "train"] + ["held_out"] * (measure == "held_out")
    batch = task.drawn[{"same": 0, "next": 1, "held_out": 2}[measure]][1]
    expected = torch.vmap(task.loss)(runs.parameters, begun.context, batch)
    assert torch.allclose(losses[0], expected, rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_next_step_is_along_the_gradient_of_the_next_batch(measure):
    task = Quadratic(noise=1.0)
    unroll = Stacked(SGDM(momentum=0.0), UnrollOptions(lr=0.5, measure=measure))
    begun, runs, _ = advanced(unroll, task, 2)
    training = [batch for split, batch in task.drawn if split == "train"]
    w = begun.parameters["w"]
    for (shift,) in training[:2]:
        w = w - 0.5 * begun.context["curvature"] * (w - begun.context["target"] - shift)
    assert torch.allclose(runs.parameters["w"], w, rtol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_running_mean_is_measured_but_does_not_train(measure):
    plain, averaged = (
        Stacked(Descent(), UnrollOptions(lr=0.5, measure=measure, average=average))
        for average in (0.0, 0.75)
    )
    begun, end, losses = advanced(averaged, Quadratic(), 2)
    _, once, _ = advanced(plain, Quadratic(), 1)
    _, twice, _ = advanced(plain, Quadratic(), 2)
    assert equal(end.parameters, twice.parameters)
    mean = begun.parameters["w"]
    for index, runs in enumerate((once, twice)):
        mean = 0.75 * mean + 0.25 * runs.parameters["w"]
        curvature, target = begun.context["curvature"], begun.context["target"]
        expected = 0.5 * (curvature * (mean - target).square()).sum((1, 2))
        assert torch.allclose(losses[index], expected, rtol=1e-12)
    assert torch.allclose(end.average["w"], mean, rtol=1e-12)


def test_running_mean_hides_noise_that_the_size_of_steps_decides():
    small, large = (
        [
            advanced(
                Stacked(SGDM(momentum=0.0), UnrollOptions(lr=lr, average=average)),
                Quadratic(noise=1.0),
                200,
            )[2][100:].mean()
            for lr in (0.05, 0.5)
        ]
        for average in (0.98, 0.0)
    )
    assert large[1] / large[0] > 1.1
    assert small[1] / small[0] < 1.05


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("measure", MEASURES)
def test_two_short_truncations_are_one_long_one(measure, average):
    options = UnrollOptions(lr=0.05, measure=measure, average=average)
    unroll = Stacked(small_rule("matrix_gnn"), options)
    task = Network()
    _, long, losses = advanced(unroll, task, 6)
    _, half, first = advanced(unroll, task, 3)
    with torch.no_grad():
        short, second = unroll.advance(half, 3)
    assert equal(short.tensors(), long.tensors())
    assert torch.equal(torch.cat([first, second]), losses)


def test_theta_can_differ_from_run_to_run():
    unroll = Stacked(Descent(), UnrollOptions(lr=0.1))
    begun = unroll.begin(Quadratic(spread=1.0, noise=1.0), 2, seeded(), copies=2)
    shifts = (0.0, 0.1, 0.2, 0.3)
    theta = dict(unroll.rule.named_parameters())
    each = {name: torch.stack([w + shift for shift in shifts]) for name, w in theta.items()}
    state = begun.generator.get_state()
    with torch.no_grad():
        together, losses = unroll.advance(begun, 3, each)
        for index in range(len(shifts)):
            begun.generator.set_state(state)
            alone, measured = unroll.advance(begun, 3, of_runs(each, index))
            kept = [of_runs(stripped(runs), index) for runs in (alone, together)]
            assert difference(*kept) < 1e-12
            assert difference(measured[:, index], losses[:, index]) < 1e-12
    assert (losses[:, 0] != losses[:, 2]).all()


def test_weights_decay_by_learning_rate_times_weight_decay():
    unroll = Stacked(SGDM(momentum=0.0), UnrollOptions(lr=0.5, weight_decay=0.25))
    begun = unroll.begin(Quadratic(), 1, seeded())
    still = {"w": torch.zeros(1, 2, 2, dtype=torch.float64)}
    begun = replace(begun, parameters={"w": still["w"] + 2}, gradients=still)
    with torch.no_grad():
        runs, _ = unroll.advance(begun, 1)
    assert torch.equal(runs.parameters["w"], begun.parameters["w"] * (1 - 0.5 * 0.25))


def test_what_is_random_in_models_follows_from_the_generator():
    unroll = Stacked(Descent(), UnrollOptions(lr=0.3, measure="same"))
    before = torch.get_rng_state()
    first = advanced(unroll, Forgetful(), 3)[2]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(advanced(unroll, Forgetful(), 3)[2], first)
    assert len(set(first[0].tolist())) == 3  # each run forgets other weights


def test_copies_share_what_is_random_in_models():
    unroll = Stacked(Descent(), UnrollOptions(lr=0.3, measure="same"))
    _, runs, losses = advanced(unroll, Forgetful(), 3, copies=2)
    assert equal(of_runs(runs.tensors(), slice(3)), of_runs(runs.tensors(), slice(3, 6)))
    assert torch.equal(losses[:, :3], losses[:, 3:])
    assert len(set(losses[0, :3].tolist())) == 3


# Runs that diverge.


class Broken(Quadratic):
    """The batch of one run is NaN once."""

    def __init__(self, run, draw):
        super().__init__(spread=1.0, noise=0.1)
        self.run, self.draw = run, draw

    def batches(self, context, runs, generator, split="train"):
        (shift,) = super().batches(context, runs, generator, split)
        if [name for name, _ in self.drawn].count("train") == self.draw and split == "train":
            shift[self.run] = torch.nan
        return (shift,)


def too_fast(begun, which, lr=1000.0):
    """The same runs, some of them with another learning rate."""
    rates = begun.lr.clone()
    rates[which] = lr
    return replace(begun, lr=rates)


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_that_is_far_too_fast_stands_still_and_disturbs_no_other(measure, second_order):
    options = UnrollOptions(lr=0.3, measure=measure, second_order=second_order)
    unroll, task = Stacked(Descent(), options), Quadratic(spread=1.0, noise=0.1)
    results = []
    for lr in (0.3, 1000.0):
        begun = too_fast(unroll.begin(task, 3, seeded()), 1, lr)
        runs, losses = unroll.advance(begun, 5)
        results.append(
            (runs, losses, torch.autograd.grad(losses[:, [0, 2]].sum(), theta_of(unroll)))
        )
    (well, expected, slopes), (runs, losses, found) = results
    assert runs.diverged.tolist() == [False, True, False]
    assert not well.diverged.any()
    others = [of_runs(stripped(r), torch.tensor([0, 2])) for r in (well, runs)]
    assert equal(*others)
    assert torch.equal(losses[:, [0, 2]], expected[:, [0, 2]])
    assert all(map(torch.equal, slopes, found))
    assert torch.equal(losses[:, 1], (100 * runs.unit[1]).expand(5))
    assert torch.equal(runs.parameters["w"][1], begun.parameters["w"][1])
    silent = torch.autograd.grad(unroll.advance(begun, 5).losses[:, 1].sum(), theta_of(unroll))
    assert not any(slope.any() for slope in silent)


def theta_of(unroll):
    return list(unroll.rule.parameters())


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_with_nan_in_a_batch_stands_still_for_good(measure, second_order):
    options = UnrollOptions(lr=0.3, measure=measure, second_order=second_order)
    unroll = Stacked(Descent(), options)
    begun = unroll.begin(Broken(run=1, draw=3), 3, seeded())
    first, before = unroll.advance(begun, 1)
    runs, losses = unroll.advance(first, 4)
    assert not first.diverged.any()
    assert runs.diverged.tolist() == [False, True, False]
    assert equal(of_runs(stripped(runs, "diverged"), 1), of_runs(stripped(first, "diverged"), 1))
    assert torch.equal(losses[:, 1], (100 * runs.unit[1]).expand(4))
    assert losses.isfinite().all()
    slopes = torch.autograd.grad(torch.cat([before, losses]).sum(), theta_of(unroll))
    assert all(torch.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_that_starts_with_nan_has_diverged_and_disturbs_no_other(measure):
    unroll = Stacked(Descent(), UnrollOptions(lr=0.3, measure=measure))
    results = []
    for task in (Broken(run=1, draw=0), Broken(run=1, draw=1)):
        begun = unroll.begin(task, 3, seeded())
        runs, losses = unroll.advance(begun, 3)
        results.append((runs, torch.autograd.grad(losses.sum(0)[[0, 2]].sum(), theta_of(unroll))))
    assert begun.diverged.tolist() == runs.diverged.tolist() == [False, True, False]
    assert begun.unit[1] == 1
    others = [of_runs(stripped(runs), torch.tensor([0, 2])) for runs, _ in results]
    assert equal(*others)
    assert all(map(torch.equal, results[0][1], results[1][1]))
    assert torch.equal(losses[:, 1], torch.full((3,), 100.0, dtype=torch.float64))


def test_models_that_change_their_buffers_are_refused():
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))

    task = ModelTask(build, images("digits", 8), cross_entropy)
    assert task.stateful
    with pytest.raises(MetaTrainError, match=r"cannot be stacked.*\n.*--backend modules"):
        Stacked(FF()).begin(NoisyLabels(task, 10, 0.5), 2, torch.Generator())
