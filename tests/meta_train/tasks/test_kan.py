import pytest
import torch
from torch.nn.functional import silu

from meta_train.errors import MetaTrainError
from meta_train.tasks.kan import REACH, KANLayer
from tests.meta_train.tasks.table import task_of


def test_outputs_are_sums_of_functions_of_single_inputs():
    layer, x = KANLayer(3, 2, 4), torch.randn(5, 3)
    seen = layer.norm(x)
    centres = torch.linspace(-REACH, REACH, 4)
    coefficients = layer.spline.weight.view(2, 3, 4)
    for sample, normed, outputs in zip(x, seen, layer(x), strict=True):
        for i in range(2):
            expected = layer.base.bias[i]
            for j in range(3):
                bumps = torch.exp(-(((normed[j] - centres) / (2 * REACH / 3)) ** 2))
                expected = expected + layer.base.weight[i, j] * silu(sample[j])
                expected = expected + coefficients[i, j] @ bumps
            torch.testing.assert_close(outputs[i], expected)


def test_bumps_are_highest_at_their_centres():
    layer = KANLayer(1, 1, 5)
    heights = layer.basis(torch.linspace(-REACH, REACH, 5).unsqueeze(1))
    assert heights.shape == (5, 1, 5)
    torch.testing.assert_close(heights[:, 0].diagonal(), torch.ones(5))
    assert torch.equal(heights[:, 0].argmax(-1), torch.arange(5))


def test_sizes():
    module = task_of("kan:size=4,width=6,depth=2,bumps=3").module
    layers = [m for m in module.modules() if isinstance(m, KANLayer)]
    shapes = [tuple(layer.spline.weight.shape) for layer in layers]
    assert shapes == [(6, 48), (6, 18), (10, 18)]
    assert module(torch.zeros(2, 1, 4, 4)).shape == (2, 10)


def test_too_few_bumps():
    with pytest.raises(MetaTrainError, match=r"cannot have 1 bump"):
        task_of("kan:bumps=1")
