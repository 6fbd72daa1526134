import pytest
import torch

from meta_train.estimators.estimator import Particles
from meta_train.estimators.nres import NRES
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import Descent, Drift, Network, equal, seeded
from tests.meta_train.unbiasedness import check_biased, check_unbiased, estimates, exact

CASES = {"drift": (Drift, 0.3), "descent": (lambda: Descent(0.1, 0.3), 1e-3)}


@pytest.mark.parametrize("name", CASES)
def test_it_is_unbiased_over_the_whole_unroll(name):
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
