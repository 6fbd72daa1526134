import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.attention import Attention
from tests.meta_train.tasks.table import task_of

TEXT = "vit:size=8,patch=4,width=8,depth=2,heads=2"


def test_sizes():
    module = task_of(TEXT).module
    assert module.embedding.weight.shape == (8, 16)
    assert module.positions.shape == (4, 8)
    assert len(module.layers) == 2
    assert module(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_all_patches_see_each_other():
    attention = [m for m in task_of(TEXT).module.modules() if isinstance(m, Attention)]
    assert [a.causal for a in attention] == [False, False]


def test_positions_tell_patches_apart():
    module, image = task_of(TEXT).module, torch.randn(1, 1, 8, 8)
    moved = image.roll(4, -1)  # the patches are the same, in another order
    assert not torch.allclose(module(image), module(moved), atol=1e-5)
    with torch.no_grad():
        start = module.positions.clone()
        module.positions.zero_()
        torch.testing.assert_close(module(image), module(moved))
        module.positions.copy_(start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("patch=3", "cannot be cut into patches of 3 x 3"),
        ("width=16,heads=3", "cannot have 3 head"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(MetaTrainError, match=message):
        task_of(f"vit:{options}")
