import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from meta_train.tasks.residual import NORMS, Block
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_normalises(name):
    maps = NORMS[name](8)(3 + 2 * torch.randn(4, 8, 5, 5))
    over = {"batch": (0, 2, 3), "group": (2, 3, 4), "layer": (1, 2, 3)}[name]
    groups = maps.unflatten(1, (4, 2)) if name == "group" else maps
    zero = groups.mean(over)
    torch.testing.assert_close(zero, torch.zeros_like(zero), atol=1e-6, rtol=0)
    one = groups.std(over, correction=0)
    torch.testing.assert_close(one, torch.ones_like(one), atol=1e-3, rtol=0)


def test_nothing_is_remembered_from_batch_to_batch():
    assert not list(task_of("residual:norm=batch,width=4,depth=2").module.buffers())


@pytest.mark.parametrize(("into", "out", "stride"), [(4, 4, 1), (4, 8, 1), (4, 4, 2), (4, 8, 2)])
def test_a_block_adds_its_input(into, out, stride):
    block = Block(into, out, stride, NORMS["layer"], nn.Identity)
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


def test_an_unknown_normalisation():
    with pytest.raises(MetaTrainError, match=r"no normalisation `none`.\n.*batch, group, layer"):
        family_of("residual:norm=none").sample(torch.Generator())
