"""Edits of images."""

import pytest
import torch

from meta_train.reading.filters import EDITS, contrast, dilate, erode


def test_dilation_and_erosion_pixel_by_pixel():
    image = torch.rand(2, 1, 5, 6)
    for edit, extreme in ((dilate, torch.max), (erode, torch.min)):
        found = edit(image)
        for row in range(5):
            for column in range(6):
                around = image[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                expected = torch.stack([extreme(one) for one in around])
                assert torch.equal(found[:, 0, row, column], expected)


def test_contrast_spreads_the_levels_of_a_dull_image():
    dull = 0.4 + 0.1 * torch.rand(3, 1, 28, 28)
    sharp = contrast(dull, clip=8.0)
    assert sharp.std() > 2 * dull.std()
    assert sharp.min() >= 0
    assert sharp.max() <= 1


def test_contrast_keeps_the_order_of_levels_within_one_tile():
    image = torch.rand(1, 1, 12, 12)
    found = contrast(image, tiles=1).flatten()[image.flatten().argsort()]
    # A level has a width, within which brightness is multiplied.
    assert (found.diff() > -1 / 32).all()
    assert found[-1] > found[0]


def test_contrast_without_structure_changes_little():
    flat = torch.arange(64).repeat(64, 1).float().add(0.5).div(64).view(1, 1, 64, 64)
    assert torch.allclose(contrast(flat, tiles=1), flat, atol=0.05)


def test_colours_keep_their_hue():
    image = torch.rand(2, 3, 32, 32) * 0.5
    found = contrast(image)
    inside = found.amax(1) < 1
    before, after = (x / x.sum(1, keepdim=True).clamp(min=1e-6) for x in (image, found))
    kept = inside & (image.sum(1) > 0.1) & (found.sum(1) > 0.1)
    assert torch.allclose(before.movedim(1, 3)[kept], after.movedim(1, 3)[kept], atol=1e-4)


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edit_of_an_image_does_not_depend_on_the_others(name):
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(EDITS[name](images)[2:3], EDITS[name](images[2:3]), atol=1e-6)
