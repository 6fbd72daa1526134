"""Turned and tiled images."""

import torch

from meta_train.zoo.tiles import rotated, tiled


def test_quarter_turns_are_exact():
    images = torch.rand(4, 2, 8, 8)
    turned = rotated(images, torch.tensor([0.0, 90.0, 180.0, 270.0]))
    for number in range(4):
        expected = torch.rot90(images[number], number, (1, 2))  # counter-clockwise
        torch.testing.assert_close(turned[number], expected, rtol=0, atol=1e-5)


def test_angles_of_networks_or_of_each_image():
    images = torch.rand(2, 3, 8, 8)
    angles = torch.tensor([30.0, 200.0])
    each = rotated(images, angles[:, None].expand(2, 3))
    torch.testing.assert_close(rotated(images, angles), each)


def test_tiles_come_in_reading_order_after_zeros():
    image = torch.arange(16.0).view(4, 4)
    tiles = tiled(image[None, None], 2)[0, 0]
    assert tiles.tolist() == [
        [0, 0, 0, 0],
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
