from functools import partial

import pytest
import torch

from meta_train.estimators.pes import PES, now_and_past
from meta_train.meta_loss import MetaLoss
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from tests.meta_train.small_tasks import Descent, Drift, Network, equal, of_runs, seeded
from tests.meta_train.unbiasedness import check_biased, check_unbiased, estimates, exact

CASES = {"drift": (Drift, 0.3), "descent": (lambda: Descent(0.1, 0.3), 1e-3)}


@pytest.mark.parametrize("segment", [0, 100], ids=["noise drawn anew", "noise that stays"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_unbiased_over_the_whole_unroll(name, segment):
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
    before, _ = now_and_past(first.noise)
    now, past = now_and_past(second.noise)
    for name, noise in now.items():
        drawn = torch.randn(noise.shape, generator=generator, dtype=noise.dtype)
        assert torch.equal(noise, sigma * drawn)
        assert torch.equal(past[name], before[name])


def test_what_pairs_share_stays_the_same():
    pes = PES(Stacked(Descent(), UnrollOptions(lr=1.0, lr_spread=2.0)), MetaLoss(), 3)
    runs = pes.estimate(pes.begin(Network(), 4, seeded())).particles.runs
    shared = {"lr": runs.lr, "unit": runs.unit, "batch": runs.draw()[0]}
    assert equal(of_runs(shared, slice(4)), of_runs(shared, slice(4, 8)))
