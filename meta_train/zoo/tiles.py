"""Images of digits as sequences: rotated by an angle, then cut into tiles."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

SIDE = 28
"""Pixels along a side of an image."""


def rotated(images: Tensor, angles: Tensor) -> Tensor:
    """Turn images counter-clockwise about their centre; what comes from outside is 0.

    Args:
        images: `(networks, images, height, width)`.
        angles: of each network in degrees, `(networks,)`, or of each image, `(networks, images)`.
    """
    count, each = images.shape[:2]
    turns = torch.deg2rad(angles).reshape(count, -1).expand(count, each).flatten().to(images)
    cos, sin, zero = turns.cos(), turns.sin(), torch.zeros_like(turns)
    # Rows of the map from places in the result to places in the image; y points down.
    maps = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
    flat = images.flatten(0, 1).unsqueeze(1)
    grid = affine_grid(maps, list(flat.shape), align_corners=False)
    return grid_sample(flat, grid, align_corners=False).view_as(images)


def tiled(images: Tensor, side: int) -> Tensor:
    """Cut images into square tiles, in reading order, with a tile of zeros in front.

    Args:
        images: `(..., height, width)`; both are multiples of `side`.
        side: pixels along a side of a tile.

    Returns:
        `(..., 1 + tiles, side * side)`.
    """
    *several, height, width = images.shape
    tiles = images.reshape(*several, height // side, side, width // side, side)
    flat = tiles.transpose(-3, -2).reshape(*several, -1, side * side)
    return pad(flat, (0, 0, 1, 0))
