import math

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.meta_loss import SMALL, MetaLoss

UNIT = torch.tensor([2.0, 4.0])


def test_it_is_the_mean_over_steps_in_units_of_the_untrained_loss():
    losses = torch.tensor([[2.0, 2.0], [1.0, 1.0]])
    assert torch.equal(MetaLoss()(losses, UNIT), torch.tensor([0.75, 0.375]))


def test_what_is_above_the_ceiling_counts_as_the_ceiling_and_says_nothing():
    losses = torch.tensor([[1.0, 1e30]], requires_grad=True)
    meta_losses = MetaLoss(ceiling=1.5)(losses, UNIT)
    assert meta_losses.tolist() == [0.5, 1.5]
    (slope,) = torch.autograd.grad(meta_losses.sum(), losses)
    assert slope.tolist() == [[0.5, 0.0]]


def test_each_step_is_held_to_the_ceiling():
    losses = torch.tensor([[200.0, 4.0], [1.0, 4.0]])
    assert MetaLoss(ceiling=1.5)(losses, UNIT).tolist() == [1.0, 1.0]


def test_logarithms_reward_halving_a_small_loss_as_much():
    halved = torch.tensor([[1.0, 0.02], [0.5, 0.01]])
    first, second = (MetaLoss(scale="log")(row[None], UNIT) for row in halved)
    assert torch.allclose(first - second, torch.tensor(math.log(2)))


def test_the_logarithm_of_a_loss_of_zero_is_finite():
    losses = torch.zeros(1, 2, requires_grad=True)
    meta_losses = MetaLoss(scale="log")(losses, UNIT)
    assert torch.allclose(meta_losses, torch.tensor(math.log(SMALL)))
    (slope,) = torch.autograd.grad(meta_losses.sum(), losses)
    assert slope.isfinite().all()


@pytest.mark.parametrize("ceiling", [0.0, -1.0])
def test_a_ceiling_that_hides_all_losses_is_refused(ceiling):
    with pytest.raises(MetaTrainError, match="Use ceiling > 0"):
        MetaLoss(ceiling=ceiling)
