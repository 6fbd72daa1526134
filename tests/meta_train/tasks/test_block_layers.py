import copy

import pytest
import torch
from torch.nn.functional import conv2d, linear

from meta_train.tasks.block_layers import BlockConv2d, BlockLinear
from meta_train.tasks.wiring import block_sizes, dense_mask
from meta_train.tasks.ws_flex import connected

GRAPHS = {
    "lattice": connected(16, 4.0, 0.0, 0),
    "small world": connected(16, 4.5, 0.3, 1),
    "random": connected(16, 3.0, 1.0, 2),
    "complete": connected(16, 15.0, 0.0, 0),
}
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}


def sizes(width):
    return block_sizes(width, 16, seed=1)


def mask_of(layer):
    wiring = layer.wiring
    return dense_mask(wiring.live.numpy(), wiring.into, wiring.out)


def compared(layer, dense, x, mask):
    """Outputs and gradients of a layer and of the masked dense function, on the same weights."""
    weight = layer.dense().detach().requires_grad_()
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(inputs[0]), dense(inputs[1], weight * mask)]
    direction = torch.randn_like(outputs[0])
    block, to_x = torch.autograd.grad(outputs[0], (layer.weight, inputs[0]), direction)
    to_weight, to_x_dense = torch.autograd.grad(outputs[1], (weight, inputs[1]), direction)
    other = copy.deepcopy(layer)
    other.weight.data = block
    scale = max(to_weight.abs().max().item(), 1)
    return [
        (outputs[0], outputs[1]),
        (to_x, to_x_dense),
        (other.dense() / scale, to_weight / scale),
    ]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_linear_layer_is_the_masked_dense_one(name, dtype):
    layer = BlockLinear(GRAPHS[name], sizes(32), sizes(53)).to(dtype)
    layer.load_dense(torch.randn(53, 32, dtype=dtype))
    mask = mask_of(layer).to(dtype)
    assert torch.equal(layer.dense() != 0, mask != 0)
    for found, expected in compared(layer, linear, torch.randn(3, 5, 32, dtype=dtype), mask):
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_convolution_is_the_masked_dense_one(kernel, stride, grouped, dtype):
    layer = BlockConv2d(GRAPHS["small world"], sizes(20), sizes(33), kernel, stride).to(dtype)
    layer.load_dense(torch.randn(33, 20, kernel, kernel, dtype=dtype) / kernel)
    if grouped:  # as on a GPU
        layer.placed = lambda: layer.wiring
    mask = mask_of(layer).to(dtype)[:, :, None, None]

    def dense(x, weight):
        return conv2d(x, weight, stride=stride, padding=kernel // 2)

    for height in (6, 7):
        x = torch.randn(2, 20, height, 5, dtype=dtype)
        for found, expected in compared(layer, dense, x, mask):
            torch.testing.assert_close(found, expected, rtol=0, atol=4 * TOLERANCES[dtype])


def test_gradients_pass_finite_differences():
    layer = BlockLinear(GRAPHS["random"], sizes(16), sizes(17)).double()
    layer.load_dense(torch.randn(17, 16))
    x = torch.randn(16, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.columns, (x,))


def test_training_leaves_what_fills_up_blocks_at_zero():
    layer = BlockLinear(GRAPHS["small world"], sizes(20), sizes(33))
    layer.load_dense(torch.randn(33, 20))
    live = layer.wiring.place() < 33 * 20
    assert not live.all()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    before = layer.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 20)).square().mean().backward()
        optimizer.step()
    assert not layer.weight[~live].any()
    assert (layer.weight != before)[live].all()
