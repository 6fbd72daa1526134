import pytest
from torch import nn

from meta_train.tasks.perceptron import perceptron


def test_activations_stand_between_the_layers():
    layers = perceptron([3, 5, 7, 2], "tanh")
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    shapes = [tuple(layer.weight.shape) for layer in layers[::2]]
    assert shapes == [(5, 3), (7, 5), (2, 7)]


def test_two_sizes_make_one_layer():
    (layer,) = perceptron([3, 2], "relu", "batch")
    assert layer.weight.shape == (2, 3)
    assert layer.bias is not None


@pytest.mark.parametrize(("norm", "kind"), [("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d)])
def test_normalisation_stands_before_the_activations(norm, kind):
    first, normalisation, act, last = perceptron([3, 5, 2], "tanh", norm)
    assert (type(first), type(normalisation), type(act)) == (nn.Linear, kind, nn.Tanh)
    assert normalisation.weight.shape == (5,)
    assert (first.bias is None) == (norm == "batch")
    assert last.bias is not None
