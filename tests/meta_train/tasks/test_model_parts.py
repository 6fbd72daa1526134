"""Activations, norms, perceptrons, patches, and the loss of language models."""

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.tasks.model_parts import (
    ACTIVATIONS,
    MAP_NORMS,
    VECTOR_NORMS,
    activation,
    map_norm,
    next_character,
    patches,
    perceptron,
    vector_norm,
)
from tests.meta_train.tasks.table import task_of


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


def assert_standard(normalised, over):
    zero, one = normalised.mean(over), normalised.std(over, correction=0)
    torch.testing.assert_close(zero, torch.zeros_like(zero), atol=1e-6, rtol=0)
    torch.testing.assert_close(one, torch.ones_like(one), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["batch", "group", "layer"])
def test_maps_are_normalised(name):
    (layer,) = map_norm(name)(8)
    maps = layer(3 + 2 * torch.randn(4, 8, 5, 5))
    over = {"batch": (0, 2, 3), "group": (2, 3, 4), "layer": (1, 2, 3)}[name]
    assert_standard(maps.unflatten(1, (4, 2)) if name == "group" else maps, over)


@pytest.mark.parametrize(("name", "over"), [("batch", 0), ("layer", 1)])
def test_vectors_are_normalised(name, over):
    (layer,) = vector_norm(name)(32)
    assert_standard(layer(3 + 2 * torch.randn(40, 32)), over)


@pytest.mark.parametrize("find", [map_norm, vector_norm])
def test_none_makes_no_layer(find):
    assert find("none")(8) == []


@pytest.mark.parametrize("norms", [MAP_NORMS, VECTOR_NORMS])
def test_nothing_is_remembered_from_batch_to_batch(norms):
    assert not [b for make in norms.values() for layer in make(8) for b in layer.buffers()]


@pytest.mark.parametrize("family", ["mlp", "convnet", "residual"])
def test_an_unknown_normalisation(family):
    kind = "vectors" if family == "mlp" else "maps"
    with pytest.raises(MetaTrainError, match=rf"no normalisation of {kind} `x`.\n.*layer, none"):
        task_of(f"{family}:norm=x")


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


def test_patches_are_squares_row_by_row():
    images = torch.randn(3, 2, 4, 6)
    cut = patches(images, 2)
    assert cut.shape == (3, 6, 8)
    for row in range(2):
        for column in range(3):
            square = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(cut[:, 3 * row + column], square.flatten(1))


def test_patches_that_do_not_tile():
    with pytest.raises(MetaTrainError, match=r"4 x 6 pixels cannot .* patches of 4 x 4.\n  Choose"):
        patches(torch.zeros(1, 1, 4, 6), 4)


def test_mean_over_all_characters():
    logits, targets = torch.randn(3, 4, 5), torch.randint(5, (3, 4))
    chances = logits.softmax(-1)
    each = [-chances[i, j, targets[i, j]].log() for i in range(3) for j in range(4)]
    torch.testing.assert_close(next_character(logits, targets), torch.stack(each).mean())
