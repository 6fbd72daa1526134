import pytest
import torch
from torch import nn

from ngopt.rules.layers.perceptron import Perceptron
from tests.rules.rule_inputs import randomize


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [[3, 2], [5, 4, 3, 2]], ids=str)
def test_equals_torchs_layers(sizes, dtype):
    net = randomize(Perceptron(sizes, torch.Generator()))
    x = expected = torch.randn(2, 6, sizes[0], dtype=dtype)
    for number, layer in enumerate(net.layers):
        expected = expected.relu() if number else expected
        expected = nn.functional.linear(expected, layer.weight.T.to(dtype), layer.bias.to(dtype))
    assert net(x).dtype == dtype
    torch.testing.assert_close(net(x), expected)


def test_starts_as_a_normal_that_is_cut_off():
    before = torch.get_rng_state()
    first, second = (Perceptron([16, 4000], torch.Generator().manual_seed(1)) for _ in range(2))
    weight = first.layers[0].weight.detach()
    assert torch.equal(weight, second.layers[0].weight)
    assert 0.49 < weight.abs().max() <= 2 / 16**0.5
    # The standard deviation of a normal that is cut off at twice its own.
    torch.testing.assert_close(weight.std(), torch.tensor(0.8796 / 4), rtol=0.02, atol=0)
    assert not first.layers[0].bias.any()
    assert torch.equal(torch.get_rng_state(), before)
