from dataclasses import replace

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.estimators.backprop import Greedy, TruncatedBackprop
from meta_train.estimators.estimator import Particles
from meta_train.estimators.evolution_strategies import ES, PES
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules import Adam
from tests.meta_train.small_tasks import (
    Descent,
    Network,
    Quadratic,
    equal,
    of_runs,
    seeded,
    small_rule,
    stripped,
)

CLASSES = (TruncatedBackprop, Greedy, ES, PES)
EACH = pytest.mark.parametrize("cls", CLASSES)
PROBLEMS = 3
BAD = 1


def estimator(cls, rule=None, steps=3, lr=0.3, **options):
    return cls(Stacked(rule or Descent(), UnrollOptions(lr=lr, **options)), MetaLoss(), steps)


def with_rates(particles, rate):
    """The same runs, the bad ones with another learning rate."""
    lr = particles.runs.lr.clone()
    lr[BAD::PROBLEMS] = rate
    return replace(particles, runs=replace(particles.runs, lr=lr))


def everything(estimate):
    """All tensors of an estimate."""
    particles = estimate.particles
    return {
        "gradient": estimate.gradient,
        "losses": estimate.losses,
        "runs": particles.runs.tensors(),
        "noise": particles.noise,
    }


@EACH
def test_estimates_follow_from_the_generator_alone(cls):
    each, results = estimator(cls, lr_spread=2.0), []
    before = torch.get_rng_state()
    for seed in (0, 0, 1):
        particles = each.begin(Network(), PROBLEMS, seeded(seed))
        for _ in range(2):
            estimate = each.estimate(particles)
            particles = estimate.particles
        results.append(everything(estimate))
    first, again, other = results
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(first, again)
    assert not equal(first["gradient"], other["gradient"])


@EACH
@pytest.mark.parametrize("measure", ["next", "same", "held_out"])
def test_a_run_that_diverges_is_counted_and_started_anew(cls, measure):
    each, task = estimator(cls, measure=measure), Quadratic(spread=1.0, noise=0.1)
    results = []
    for rate in (0.3, 1000.0):
        particles = with_rates(each.begin(task, PROBLEMS, seeded()), rate)
        if cls is PES:
            ones = {n: torch.ones(PROBLEMS, *w.shape) for n, w in weights(each).items()}
            particles = replace(particles, noise=ones)
        results.append(each.estimate(particles))
    well, estimate = results
    runs = estimate.particles.runs
    bad = torch.arange(len(runs)) % PROBLEMS == BAD
    assert well.diverged == 0
    assert estimate.diverged == bad.sum()
    # Others are where they would be without it; what they will see comes from the same generator.
    kept = [of_runs(stripped(e.particles.runs), ~bad) for e in results]
    assert equal(*kept)
    assert torch.equal(estimate.losses[~bad], well.losses[~bad])
    assert torch.equal(estimate.losses[bad], torch.full_like(estimate.losses[bad], 1.5))
    assert not runs.diverged.any()
    assert not runs.state["w"]["step"][bad].any()
    assert (runs.state["w"]["step"][~bad] == 3).all()
    assert not runs.parameters["w"][bad].any()
    assert torch.equal(runs.losses[bad], runs.unit[bad])
    assert (runs.lr[bad] == runs.lr[0]).all()
    assert all(slope.isfinite().all() for slope in estimate.gradient.values())
    assert any(slope.any() for slope in estimate.gradient.values())
    if cls is PES:
        for name, noise in estimate.particles.noise.items():
            assert not noise[BAD].any()
            assert torch.equal(noise[[0, 2]], well.particles.noise[name][[0, 2]])


def weights(each):
    return dict(each.unroll.rule.named_parameters())


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("cls", [TruncatedBackprop, Greedy])
def test_a_run_that_diverges_says_nothing_and_silences_no_other(cls, second_order):
    each = estimator(cls, second_order=second_order)
    particles = with_rates(each.begin(Quadratic(spread=1.0), PROBLEMS, seeded()), 1000.0)
    runs, good = particles.runs, torch.tensor([0, 2])
    alone = replace(runs.with_tensors(of_runs(runs.tensors(), good)), generator=seeded(9))
    found, expected = (each.estimate(p) for p in (particles, Particles(alone, {})))
    assert found.diverged == 1
    for name, slope in expected.gradient.items():
        # The mean is over three runs in one case, over two in the other.
        assert torch.allclose(3 * found.gradient[name], 2 * slope, rtol=1e-12)


@pytest.mark.parametrize("cls", CLASSES)
def test_learned_rules_survive_a_diverging_run(cls):
    each = estimator(cls, small_rule("matrix_gnn"), lr=0.03)
    particles = with_rates(each.begin(Network(), PROBLEMS, seeded()), 1e6)
    estimate = each.estimate(particles)
    runs = estimate.particles.runs
    assert estimate.diverged == len(runs) // PROBLEMS
    assert all(slope.isfinite().all() for slope in estimate.gradient.values())
    assert any(slope.any() for slope in estimate.gradient.values())
    again = each.estimate(estimate.particles)
    assert again.diverged == 0
    assert again.losses.isfinite().all()


@pytest.mark.parametrize("cls", [ES, PES])
def test_a_pair_starts_anew_if_one_run_has_diverged(cls):
    each = estimator(cls)
    particles = each.begin(Quadratic(spread=1.0), PROBLEMS, seeded())
    lr = particles.runs.lr.clone()
    lr[PROBLEMS + BAD] = 1000.0  # the second of the pair
    estimate = each.estimate(replace(particles, runs=replace(particles.runs, lr=lr)))
    runs = estimate.particles.runs
    assert estimate.diverged == 2
    assert runs.state["w"]["step"].tolist() == [3, 0, 3, 3, 0, 3]
    target = runs.context["target"]
    assert torch.equal(target[BAD], target[PROBLEMS + BAD])
    assert not torch.equal(target[BAD], particles.runs.context["target"][BAD])


class Nothing(TruncatedBackprop):
    """Backpropagation that comes to no result."""

    def _estimate(self, particles):
        gradient, losses, after = super()._estimate(particles)
        gradient["log_rate"] = gradient["log_rate"] * torch.tensor([1.0, torch.nan])
        noise = {"log_rate": torch.ones(PROBLEMS, 2)}
        return gradient, losses, Particles(after.runs, noise)


def test_an_estimate_that_is_not_finite_counts_as_zeros_and_all_runs_start_anew():
    each = estimator(Nothing)
    estimate = each.estimate(each.begin(Quadratic(), PROBLEMS, seeded()))
    assert not any(slope.any() for slope in estimate.gradient.values())
    assert estimate.diverged == PROBLEMS
    assert not estimate.particles.runs.state["w"]["step"].any()
    assert not estimate.particles.noise["log_rate"].any()


def test_a_rule_with_nothing_to_learn_is_refused():
    frozen = Descent().requires_grad_(False)
    for rule in (Adam(), frozen):
        with pytest.raises(MetaTrainError, match=r"nothing to meta-train in(.|\n)*Use a rule"):
            estimator(TruncatedBackprop, rule)


def test_a_truncation_without_steps_is_refused():
    with pytest.raises(MetaTrainError, match="at least 1 step"):
        estimator(Greedy, steps=0)
