import pytest
import torch
from torch import nn

from ngopt import NeuralGraphOptimizer
from ngopt.errors import OptionError
from ngopt.optim.parameter_groups import REFUSED_OPTIONS
from ngopt.rules import Adam

VALUES = {"betas": (0.9, 0.95), "eps": 1e-6, "momentum": 0.9}


@pytest.mark.parametrize("name", REFUSED_OPTIONS)
def test_options_of_other_optimizers_are_refused(name):
    value, weight = VALUES.get(name, True), nn.Parameter(torch.ones(2))
    expected = pytest.raises(OptionError, match=rf"^{name}= is an option.*\n.*Leave it out")
    with expected:
        NeuralGraphOptimizer([weight], rule=Adam(), **{name: value})
    with expected:
        NeuralGraphOptimizer([{"params": [weight], name: value}], rule=Adam())
    optimizer = NeuralGraphOptimizer([nn.Parameter(torch.ones(2))], rule=Adam())
    with expected:
        optimizer.add_param_group({"params": [weight], name: value})
    assert len(optimizer.param_groups) == 1


def test_a_model_that_is_refused_does_not_wait():
    model = nn.Linear(2, 2)
    with pytest.raises(OptionError):
        NeuralGraphOptimizer(model, rule=Adam(), betas=(0.9, 0.95))
    assert not model._forward_pre_hooks


def test_what_nobody_knows_is_a_mistake_in_the_call():
    with pytest.raises(TypeError, match="no argument 'learning_rate'"):
        NeuralGraphOptimizer(nn.Linear(2, 2), learning_rate=0.1)


@pytest.mark.parametrize("other", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_groups_of_another_optimizer_may_be_taken_over(other):
    model = nn.Linear(2, 2)
    groups = other([{"params": [p], "mine": 1} for p in model.parameters()], lr=0.1).param_groups
    optimizer = NeuralGraphOptimizer(groups, rule=Adam())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert [group["mine"] for group in optimizer.param_groups] == [1, 1]
