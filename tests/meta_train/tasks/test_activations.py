import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.activations import ACTIVATIONS, activation


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"identity"}))
def test_names_are_those_of_torch(name):
    x = torch.linspace(-3, 3, 20)
    expected = getattr(torch.nn.functional, name)(x)
    assert torch.equal(activation(name)(x), expected)
    assert not torch.equal(expected, x)


def test_the_identity():
    x = torch.linspace(-3, 3, 20)
    assert torch.equal(activation("identity")(x), x)


def test_an_unknown_name():
    with pytest.raises(MetaTrainError, match=r"no activation `swish`.\n  Use one of: elu, gelu"):
        activation("swish")
