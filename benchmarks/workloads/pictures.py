"""Pictures with pixels from 0 to 1, and pictures as functions of places."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from meta_train.data.dataset import Dataset
from meta_train.data.images import images


def unit_range(name: str, size: int) -> Dataset:
    """Images with pixels from 0 to 1, by the range of the training images.

    Args:
        name: of the data set.
        size: of the images in pixels.
    """
    data = images(name, size)
    low, high = data.splits["train"][0].aminmax()
    splits = {
        split: (((pixels - low) / (high - low)).clamp(0, 1), labels)
        for split, (pixels, labels) in data.splits.items()
    }
    return Dataset(data.name, splits, data.classes)


@cache
def photograph(height: int, width: int) -> Tensor:
    """A colour photograph of a temple, from scikit-learn: (3, height, width), from 0 to 1.

    Raises:
        ImportError: if scikit-learn or Pillow is missing.
    """
    from sklearn.datasets import load_sample_image  # takes a second to import

    pixels = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)
    return F.interpolate(pixels[None] / 255, (height, width), mode="area")[0]


def grid(height: int, width: int) -> Tensor:
    """Centres of all pixels as (height * width, 2) of row and column, from -1 to 1."""
    rows, columns = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    return torch.cartesian_prod(rows, columns)


def psnr(found: Tensor, wanted: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values from 0 to 1."""
    return -10 * (found - wanted).square().mean().log10().item()
