"""What images are edited to: dilated, eroded, or with more local contrast."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

TILES, BINS, CLIP = 3, 64, 2.0
"""Of the local contrast: tiles along each side, grey levels, and largest share of one of them, in
units of the mean share."""

GREY = (0.299, 0.587, 0.114)
"""How bright red, green and blue are."""


def dilate(images: Tensor) -> Tensor:
    """Make bright parts grow: the maximum over 3 x 3 pixels.

    Args:
        images: `(n, channels, height, width)`.
    """
    return max_pool2d(images, 3, 1, 1)


def erode(images: Tensor) -> Tensor:
    """Make bright parts shrink: the minimum over 3 x 3 pixels; see :func:`dilate`."""
    return -dilate(-images)


def contrast(images: Tensor, tiles: int = TILES, bins: int = BINS, clip: float = CLIP) -> Tensor:
    """Raise the local contrast, as contrast-limited adaptive histogram equalisation does.

    The brightness of each tile is mapped so that its levels become about equally frequent; levels
    that are more frequent than `clip` are counted as that, and the rest is shared by all levels,
    which limits how steep the map is. Between the centres of tiles, maps are interpolated. Colours
    keep their hue: they are multiplied as the brightness is.

    Args:
        images: from 0 to 1, `(n, channels, height, width)`, grey (one channel) or colours.
        tiles: along each side.
        bins: number of levels.
        clip: largest share of a level, in units of the mean share.

    Returns:
        Images from 0 to 1.

    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    The interpolation and the treatment of colours are ngopt's, in their simplest form.
    """
    images = images.clamp(0, 1)
    colours = images.new_tensor(GREY if images.shape[1] == 3 else (1.0,) * images.shape[1])
    brightness = torch.einsum("nchw,c->nhw", images, colours / colours.sum())
    level = (brightness * bins).long().clamp(max=bins - 1)
    maps = _maps(level, tiles, bins, clip)
    height, width = brightness.shape[1:]
    rows, columns = (_between(size, tiles, images) for size in (height, width))
    found = torch.zeros_like(brightness)
    for row, row_weight in rows:
        for column, column_weight in columns:
            tile = row[:, None] * tiles + column[None, :]
            weight = row_weight[:, None] * column_weight[None, :]
            place = tile.flatten() * bins + level.flatten(1)
            found += weight * maps.flatten(1).gather(1, place).view_as(found)
    factor = found / brightness.clamp(min=0.5 / bins)
    return (images * factor.unsqueeze(1)).clamp(0, 1)


def _maps(level: Tensor, tiles: int, bins: int, clip: float) -> Tensor:
    """New brightness of each level in each tile, `(n, tiles * tiles, bins)`."""
    count, height, width = level.shape
    row, column = (torch.arange(s, device=level.device) * tiles // s for s in (height, width))
    tile = (row[:, None] * tiles + column[None, :]).flatten()
    shares = torch.zeros(count, tiles * tiles * bins, device=level.device)
    place = tile * bins + level.flatten(1)
    shares.scatter_add_(1, place, torch.ones_like(place, dtype=shares.dtype))
    shares = shares.view(count, tiles * tiles, bins)
    shares = shares / shares.sum(2, keepdim=True)
    limited = shares.clamp(max=clip / bins)
    limited = limited + (1 - limited.sum(2, keepdim=True)) / bins
    maps = limited.cumsum(2)
    # A level that is black stays black.
    return (maps - maps[..., :1]) / (maps[..., -1:] - maps[..., :1]).clamp(min=1e-6)


def _between(size: int, tiles: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two nearest tiles of each pixel along a side, `(size,)` each, and their weights."""
    centre = (torch.arange(size, device=like.device) + 0.5) * tiles / size - 0.5
    centre = centre.clamp(0, tiles - 1)
    low = centre.floor().long().clamp(max=max(0, tiles - 2))
    share = (centre - low).to(like)
    return [(low, 1 - share), ((low + 1).clamp(max=tiles - 1), share)]


EDITS: dict[str, Callable[[Tensor], Tensor]] = {
    "dilate": dilate,
    "erode": erode,
    "contrast": contrast,
}
"""Edits by name."""
