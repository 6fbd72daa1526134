import pytest
import torch
from torch import nn

from meta_train.tasks.model_parts import map_norm
from meta_train.tasks.residual import Block
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize(("into", "out", "stride"), [(4, 4, 1), (4, 8, 1), (4, 4, 2), (4, 8, 2)])
def test_a_block_adds_its_input(into, out, stride):
    block = Block(into, out, stride, map_norm("layer"), nn.Identity)
    maps = torch.randn(2, into, 6, 6)
    with torch.no_grad():
        block.body[-1].weight.zero_()
        result = block(maps)
    assert result.shape == (2, out, 6 // stride, 6 // stride)
    if (into, stride) == (out, 1):
        assert torch.equal(result, maps)
    else:
        assert torch.equal(result, block.shortcut(maps))


def test_blocks_double_the_channels_and_halve_the_image():
    maps = torch.randn(2, 1, 8, 8)
    shapes = []
    for layer in task_of("residual:width=4,depth=3,norm=group").module:
        maps = layer(maps)
        if isinstance(layer, Block):
            shapes.append(tuple(maps.shape[1:]))
    assert shapes == [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
