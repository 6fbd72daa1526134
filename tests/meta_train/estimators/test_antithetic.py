import math

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.estimators.antithetic import slope
from meta_train.estimators.es import ES
from meta_train.estimators.pes import PES
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import Descent, Network, Quadratic, leaves, of_runs, seeded

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
