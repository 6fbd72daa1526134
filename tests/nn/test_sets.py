import torch

from ngopt.nn.sets import SetLayer
from tests.rules.rule_inputs import randomize


def test_layer_is_the_formula():
    layer = randomize(SetLayer(3, 2, torch.Generator())).double()
    x = torch.randn(2, 4, 5, 1, 3, dtype=torch.float64)
    mean = sum(x.reshape(-1, 3)) / 40
    expected = [row @ layer.each.weight + mean @ layer.all.weight for row in x.reshape(-1, 3)]
    expected = torch.stack(expected) + layer.each.bias
    torch.testing.assert_close(layer(x), expected.view(2, 4, 5, 1, 2))
