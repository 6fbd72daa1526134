import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.mixer import MixerLayer
from tests.meta_train.tasks.table import task_of


def test_sizes():
    module = task_of("mixer:size=8,patch=2,width=12,depth=2").module
    assert module.embedding.weight.shape == (12, 4)
    for layer in module.layers:
        assert [p.shape[0] for n, p in layer.across.named_parameters() if "bias" in n] == [6, 16]
        assert layer.channels[1].out_features == 48
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_one_perceptron_mixes_patches_the_other_channels():
    layer, x = MixerLayer(5, 8, "gelu"), torch.randn(3, 5, 8)
    normalised = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
    across = torch.stack([layer.across(normalised[:, :, channel]) for channel in range(8)], -1)
    mixed = x + across
    expected = mixed + torch.stack([layer.channels(mixed[:, patch]) for patch in range(5)], 1)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_patches_that_do_not_tile():
    with pytest.raises(MetaTrainError, match="cannot be cut into patches of 5 x 5"):
        task_of("mixer:patch=5")
