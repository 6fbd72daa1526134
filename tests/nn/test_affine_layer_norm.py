import pytest
import torch
from torch import nn

from ngopt.nn.affine import LayerNorm
from tests.rules.rule_inputs import randomize


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_torch(dtype):
    ours, torchs = randomize(LayerNorm(5)), nn.LayerNorm(5)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 2, 5, dtype=dtype)
    assert ours(x).dtype == dtype
    torch.testing.assert_close(ours(x), torchs.to(dtype)(x))


def test_constant_input_gives_the_bias_and_finite_derivatives():
    norm = randomize(LayerNorm(5))
    x = torch.full((2, 5), 3.0, requires_grad=True)
    result = norm(x)
    torch.testing.assert_close(result, norm.bias.expand(2, 5))
    slopes = torch.autograd.grad(result.square().sum(), [x, *norm.parameters()])
    assert all(slope.isfinite().all() for slope in slopes)
