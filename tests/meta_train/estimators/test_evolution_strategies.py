"""Evolution strategies: derivatives on average, pairs, noise that stays or is drawn anew."""

import math
from functools import partial

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Particles
from meta_train.estimators.evolution_strategies import ES, NRES, PES, slope, split_noise
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import (
    Descent,
    Drift,
    Network,
    Quadratic,
    equal,
    leaves,
    of_runs,
    seeded,
)
from tests.meta_train.unbiasedness import check_biased, check_unbiased, estimates, exact

HIGH = MetaLoss(ceiling=10.0)
CLASSES = pytest.mark.parametrize("cls", [ES, PES])


def estimator(cls, rule=None, sigma=0.01, **options):
    unroll = Stacked(rule or Descent(), UnrollOptions(lr=0.5, **options))
    return cls(unroll, HIGH, 3, sigma=sigma)


@CLASSES
def test_an_estimate_is_made_of_the_losses_with_theta_to_either_side(cls):
    each, sigma = estimator(cls), 0.01
    particles = each.begin(Quadratic(spread=1.0, noise=1.0), 3, seeded())
    runs, generator = particles.runs, particles.runs.generator
    state = generator.get_state()
    estimate = each.estimate(particles)

    generator.set_state(state)
    theta = {name: w.detach() for name, w in each.unroll.rule.named_parameters()}
    noise = {
        name: sigma * torch.randn(3, *w.shape, generator=generator, dtype=w.dtype)
        for name, w in theta.items()
    }
    state = generator.get_state()
    expected = {name: torch.zeros_like(w) for name, w in theta.items()}
    for pair in range(3):
        losses = []
        for sign in (1, -1):
            generator.set_state(state)
            shifted = {name: w + sign * noise[name][pair] for name, w in theta.items()}
            with torch.no_grad():
                advanced = each.unroll.advance(runs, 3, shifted)
            losses.append(HIGH(advanced.losses, runs.unit)[pair])
        assert torch.allclose(torch.stack(losses), estimate.losses[[pair, pair + 3]], rtol=1e-12)
        for name in theta:
            difference = losses[0] - losses[1]
            expected[name] += noise[name][pair] * difference / (2 * sigma**2) / 3
    for name, slopes in estimate.gradient.items():
        assert torch.allclose(slopes, expected[name], rtol=1e-9)


@CLASSES
def test_nothing_is_remembered_for_derivatives(cls):
    each = estimator(cls, second_order=True)
    estimate = each.estimate(each.begin(Network(), 2, seeded()))
    particles = estimate.particles
    tensors = leaves({"runs": particles.runs.tensors(), "noise": particles.noise})
    tensors += [*estimate.gradient.values(), estimate.losses]
    assert not any(tensor.requires_grad for tensor in tensors)


@CLASSES
def test_frozen_weights_stay_where_they_are(cls):
    rule = Descent()
    rule.momentum.requires_grad_(False)
    each = estimator(cls, rule)
    estimate = each.estimate(each.begin(Quadratic(), 4, seeded()))
    assert estimate.gradient["momentum"] == 0
    assert estimate.gradient["log_rate"].all()
    assert not any(n.any() for name, n in estimate.particles.noise.items() if name == "momentum")


@CLASSES
def test_each_problem_has_noise_of_its_own(cls):
    each = estimator(cls)
    runs = each.estimate(each.begin(Quadratic(), 4, seeded())).particles.runs
    assert len({tuple(w.flatten().tolist()) for w in of_runs(runs.parameters, slice(4))["w"]}) == 4


def test_differences_that_are_not_finite_count_as_none():
    noise = {"a": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])}
    inf, nan = torch.inf, torch.nan
    losses = torch.tensor([2.0, nan, inf, inf, 1.0, 1.0, inf, 0.0])
    found = slope(noise, losses, 0.5)["a"]
    assert torch.equal(found, torch.tensor([1.0, 2.0]) / (2 * 0.25) / 4)


@CLASSES
@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_noise_that_is_none_is_refused(cls, sigma):
    with pytest.raises(MetaTrainError, match="Use sigma > 0"):
        estimator(cls, sigma=sigma)


@CLASSES
def test_stacks_count_alike_where_differences_are_standardized(cls):
    def gradient(scale):
        each = cls(Stacked(Descent(), UnrollOptions(lr=0.01)), MetaLoss(), 2, standardize=True)
        _, noise, _ = each._perturbed(each.begin(Quadratic(), 5, seeded()))
        losses = scale * torch.tensor([0.3, -0.2, 0.5, 0.1, math.nan, 0.1, 0.4, -0.3, 0.2, 0.0])
        return each._slope(noise, losses.double())

    for name, expected in gradient(1.0).items():
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient(1e-4)[name], expected)


# Losses are quadratic in what Drift does, so its estimates are unbiased for any noise.
# For Descent, noise of 1e-3 smooths by about 1e-6.
CASES = {"drift": (Drift, 0.3), "descent": (lambda: Descent(0.1, 0.3), 1e-3)}


@pytest.mark.parametrize("name", CASES)
def test_it_is_unbiased_over_a_truncation(name):
    build, sigma = CASES[name]
    check_unbiased(estimates(ES, build(), sigma, 3), exact(build(), 3))


def test_it_sees_as_much_of_an_unroll_as_truncated_backprop():
    rows = estimates(ES, Descent(0.1, 0.3), 1e-3, 2, truncations=2)
    check_unbiased(rows, exact(Descent(0.1, 0.3), 2, truncations=2))
    check_biased(rows, exact(Descent(0.1, 0.3), 4))


def test_both_runs_of_a_pair_go_on_from_the_first():
    es = ES(Stacked(Descent(), UnrollOptions(lr=1.0)), MetaLoss(), 3, sigma=0.1)
    estimate = es.estimate(es.begin(Network(), 4, seeded()))
    tensors = estimate.particles.runs.tensors()
    assert equal(of_runs(tensors, slice(4)), of_runs(tensors, slice(4, 8)))
    assert (estimate.losses[:4] != estimate.losses[4:]).all()
    assert estimate.particles.noise == {}


def test_the_first_run_of_a_pair_has_gone_where_its_theta_led():
    es = ES(Stacked(Descent(), UnrollOptions(lr=1.0)), MetaLoss(), 3, sigma=0.1)
    particles = es.begin(Network(), 4, seeded())
    generator = particles.runs.generator
    state = generator.get_state()
    after = es.estimate(particles).particles.runs
    generator.set_state(state)
    theta = {
        name: weight.repeat(8, *[1] * weight.dim())
        + 0.1
        * torch.randn(4, *weight.shape, generator=generator, dtype=weight.dtype).repeat(
            2, *[1] * weight.dim()
        )
        for name, weight in es.unroll.rule.named_parameters()
    }
    with torch.no_grad():
        expected = es.unroll.advance(particles.runs, 3, theta).runs
    assert equal(of_runs(after.parameters, slice(4)), of_runs(expected.parameters, slice(4)))


@pytest.mark.parametrize("segment", [0, 100], ids=["noise drawn anew", "noise that stays"])
@pytest.mark.parametrize("name", CASES)
def test_pes_is_unbiased_over_the_whole_unroll(name, segment):
    build, sigma = CASES[name]
    rows = estimates(partial(PES, segment=segment), build(), sigma, 2, truncations=2)
    check_unbiased(rows, exact(build(), 4))
    check_biased(rows, exact(build(), 2, truncations=2))  # truncated backpropagation


def test_it_is_biased_if_it_forgets_the_noise():
    rows = estimates(PES, Descent(0.1, 0.3), 1e-3, 2, truncations=2, forget=True)
    check_biased(rows, exact(Descent(0.1, 0.3), 4))


def test_runs_of_a_pair_go_their_own_ways_and_their_noise_adds_up():
    sigma = 0.1
    pes = PES(Stacked(Descent(), UnrollOptions(lr=1.0)), MetaLoss(), 3, sigma=sigma)
    first = pes.estimate(pes.begin(Network(), 4, seeded())).particles
    state = first.runs.generator.get_state()
    second = pes.estimate(first).particles
    weight = second.runs.parameters["0.weight"]
    assert not torch.equal(weight[:4], weight[4:])
    generator = seeded().set_state(state)
    before, _ = split_noise(first.noise)
    now, past = split_noise(second.noise)
    for name, noise in now.items():
        drawn = torch.randn(noise.shape, generator=generator, dtype=noise.dtype)
        assert torch.equal(noise, sigma * drawn)
        assert torch.equal(past[name], before[name])


def test_what_pairs_share_stays_the_same():
    pes = PES(Stacked(Descent(), UnrollOptions(lr=1.0, lr_spread=2.0)), MetaLoss(), 3)
    runs = pes.estimate(pes.begin(Network(), 4, seeded())).particles.runs
    shared = {"lr": runs.lr, "unit": runs.unit, "batch": runs.draw()[0]}
    assert equal(of_runs(shared, slice(4)), of_runs(shared, slice(4, 8)))


@pytest.mark.parametrize("name", CASES)
def test_nres_is_unbiased_over_the_whole_unroll(name):
    build, sigma = CASES[name]
    rows = estimates(NRES, build(), sigma, 2, truncations=2)
    check_unbiased(rows, exact(build(), 4))
    check_biased(rows, exact(build(), 2, truncations=2))  # truncated backpropagation


def nres(problems=4):
    estimator = NRES(Stacked(Descent(), UnrollOptions(lr=1.0)), MetaLoss(), 3, sigma=0.1)
    return estimator, estimator.begin(Network(), problems, seeded())


def test_noise_stays_from_one_truncation_to_the_next():
    estimator, begun = nres()
    first = estimator.estimate(begun).particles
    second = estimator.estimate(first).particles
    assert all(noise.any() for noise in first.noise.values())
    assert equal(first.noise, second.noise)


def test_runs_that_begin_anew_get_noise_of_their_own():
    estimator, begun = nres()
    first = estimator.estimate(begun).particles
    diverged = torch.zeros(8, dtype=torch.bool)
    diverged[5] = True  # The second of the pair of problem 1.
    runs = first.runs.with_tensors({"diverged": diverged})
    after = estimator.estimate(Particles(runs, first.noise)).particles
    for name, noise in after.noise.items():
        changed = (noise != first.noise[name]).reshape(4, -1).any(1)
        assert changed.tolist() == [False, True, False, False]
