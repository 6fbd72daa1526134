import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.patches import patches


def test_patches_are_squares_row_by_row():
    images = torch.randn(3, 2, 4, 6)
    cut = patches(images, 2)
    assert cut.shape == (3, 6, 8)
    for row in range(2):
        for column in range(3):
            square = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(cut[:, 3 * row + column], square.flatten(1))


def test_patches_that_do_not_tile():
    with pytest.raises(MetaTrainError, match=r"4 x 6 pixels cannot .* patches of 4 x 4.\n  Choose"):
        patches(torch.zeros(1, 1, 4, 6), 4)
