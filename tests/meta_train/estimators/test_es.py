import pytest
import torch

from meta_train.estimators.es import ES
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import Descent, Drift, Network, equal, of_runs, seeded
from tests.meta_train.unbiasedness import check_biased, check_unbiased, estimates, exact

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
