"""Is the mean of a random estimate what it should be? A t-test, and what it would have noticed.

From 24 independent estimates, each the mean over many problems, the deviation of their mean in
units of its standard error follows Student's t with 23 degrees of freedom. Beyond 5 it is by
chance once in 20,000 times. A bias of 8 standard errors ends up beyond 5 in more than 99 of 100
cases, so where 5 % of the true value is that much, a bias of 5 % does not go unnoticed.
"""

import torch

from meta_train.estimators.backprop import TruncatedBackprop
from meta_train.estimators.estimator import Particles
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import Quadratic, seeded

ESTIMATES = 24
CHANCE = 5.0
NOTICED = 8.0
BIAS = 0.05
UNCLIPPED = MetaLoss(ceiling=1e9)


def unroll_of(rule):
    """Trains with the rule's own learning rates, and remembers all orders of gradients."""
    options = UnrollOptions(lr=1.0, second_order=True, diverged_above=1e9)
    return Stacked(rule, options)


def flat(gradient):
    return torch.cat([slope.flatten() for slope in gradient.values()])


def exact(rule, truncation, truncations=1):
    """Derivative of the mean meta-loss over truncations, none of which sees the ones before."""
    backprop = TruncatedBackprop(unroll_of(rule), UNCLIPPED, truncation)
    particles, slopes = backprop.begin(Quadratic(), 1, seeded()), []
    for _ in range(truncations):
        estimate = backprop.estimate(particles)
        particles = estimate.particles
        slopes.append(flat(estimate.gradient))
    return torch.stack(slopes).mean(0)


def estimates(cls, rule, sigma, truncation, truncations=1, problems=8192, forget=False):
    """Independent estimates of the same, (ESTIMATES, size of theta)."""
    estimator = cls(unroll_of(rule), UNCLIPPED, truncation, sigma=sigma)
    begun, rows = estimator.begin(Quadratic(), problems, seeded(1)), []
    for _ in range(ESTIMATES):
        particles, slopes = begun, []
        for _ in range(truncations):
            estimate = estimator.estimate(particles)
            assert not estimate.diverged
            kept = estimate.particles
            particles = Particles(kept.runs, {}) if forget else kept
            slopes.append(flat(estimate.gradient))
        rows.append(torch.stack(slopes).mean(0))
    return torch.stack(rows)


def standard_error(rows):
    return rows.std(0) / len(rows) ** 0.5


def deviations(rows, expected):
    """How far the mean is off, in standard errors, for each weight."""
    return ((rows.mean(0) - expected) / standard_error(rows)).abs()


def check_unbiased(rows, expected):
    """The means are right, and a bias of 5 % in any weight would have been noticed."""
    assert (deviations(rows, expected) < CHANCE).all()
    assert (BIAS * expected.abs() > NOTICED * standard_error(rows)).all()
    assert (deviations((1 + BIAS) * rows, expected) > CHANCE).all()
    assert (deviations((1 - BIAS) * rows, expected) > CHANCE).all()


def check_biased(rows, expected):
    """The mean of each weight's estimate is wrong."""
    assert (deviations(rows, expected) > CHANCE).all()
