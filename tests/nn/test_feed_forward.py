import itertools

import pytest
import torch
from torch import nn

from ngopt.nn.feed_forward import FeedForward, Perceptron
from tests.rules.rule_inputs import randomize


def drawn(sizes, **options):
    return FeedForward(sizes, torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [[3, 2], [3, 5, 2], [3, 5, 4, 2]], ids=len)
def test_equals_torch_layers(sizes, dtype):
    ours = randomize(drawn(sizes))
    layers = [nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
    with torch.no_grad():
        for mine, theirs in zip(ours.layers, layers, strict=True):
            theirs.weight.copy_(mine.weight.T)
            theirs.bias.copy_(mine.bias)
    theirs = nn.Sequential(*[part for layer in layers for part in (layer, nn.SiLU())][:-1])
    x = torch.randn(2, 4, 3, dtype=dtype)
    assert ours(x).dtype == dtype
    torch.testing.assert_close(ours(x), theirs(x))


def test_zero_silences_the_last_layer_only():
    net = drawn([3, 4, 4, 2], zero=True)
    assert not net(torch.randn(5, 3)).any()
    assert not any(p.any() for p in net.layers[-1].parameters())
    assert all(layer.weight.any() for layer in net.layers[:-1])
    net(torch.randn(5, 3)).sum().backward()
    assert net.layers[-1].weight.grad.any()


def test_the_generator_decides_the_draw():
    generator = torch.Generator().manual_seed(0)
    first, second = (FeedForward([3, 4, 2], generator) for _ in range(2))
    assert torch.equal(first.layers[0].weight, drawn([3, 4, 2]).layers[0].weight)
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [[3, 2], [5, 4, 3, 2]], ids=str)
def test_perceptron_equals_torchs_layers(sizes, dtype):
    net = randomize(Perceptron(sizes, torch.Generator()))
    x = expected = torch.randn(2, 6, sizes[0], dtype=dtype)
    for number, layer in enumerate(net.layers):
        expected = expected.relu() if number else expected
        expected = nn.functional.linear(expected, layer.weight.T.to(dtype), layer.bias.to(dtype))
    assert net(x).dtype == dtype
    torch.testing.assert_close(net(x), expected)


def test_perceptron_starts_as_a_normal_that_is_cut_off():
    before = torch.get_rng_state()
    first, second = (Perceptron([16, 4000], torch.Generator().manual_seed(1)) for _ in range(2))
    weight = first.layers[0].weight.detach()
    assert torch.equal(weight, second.layers[0].weight)
    assert 0.49 < weight.abs().max() <= 2 / 16**0.5
    # The standard deviation of a normal that is cut off at twice its own.
    torch.testing.assert_close(weight.std(), torch.tensor(0.8796 / 4), rtol=0.02, atol=0)
    assert not first.layers[0].bias.any()
    assert torch.equal(torch.get_rng_state(), before)
