"""Image data sets by name, at any size."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from meta_train.data.cifar10 import cifar10
from meta_train.data.dataset import Dataset, RawImages
from meta_train.data.folder import data_folder
from meta_train.data.mnist import fashion_mnist, mnist
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up

TEST = 300


def digits(folder: Path) -> RawImages:
    """Load 1,497 + 300 images (n, 1, 8, 8), mixed once for all: their order tells their writers.

    Args:
        folder: not needed, the images come with scikit-learn.
    """
    from sklearn.datasets import load_digits  # takes a while

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    training, test = mixed[:-TEST], mixed[-TEST:]
    return RawImages(images[training], labels[training], images[test], labels[test])


IMAGES: dict[str, Callable[[Path], RawImages]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}
"""What loads each data set from the folder of all data sets, at its own size."""

HELD_OUT = 5000
CHUNK = 4096


def images(name: str, size: int) -> Dataset:
    """Load images (n, channels, size, size), standardised, and labels (n,).

    The test split is that of the authors. As many images, but at most 5,000, are drawn once for
    all from the training images and held out. Mean and standard deviation, of each channel, are
    those of the training images at this size.

    Args:
        name: one of :data:`IMAGES`.
        size: of the images in pixels; larger ones are averaged down by area.

    Raises:
        MetaTrainError: if there is no such data set, its files are missing, or it is smaller.
    """
    return _images(name, size, data_folder())


@cache
def _images(name: str, size: int, folder: Path) -> Dataset:
    raw = look_up(IMAGES, name, "image data set")(folder)
    own = raw.training.shape[-1]
    if not 0 < size <= own:
        raise MetaTrainError(
            f"the images of `{name}` cannot be had with size={size}: they have {own} x {own} "
            f"pixels.\n  Choose a size from 1 to {own}."
        )
    mixed = torch.randperm(len(raw.training), generator=torch.Generator().manual_seed(0))
    train, held_out = mixed.tensor_split([len(mixed) - min(len(raw.test), HELD_OUT)])
    splits = {
        "train": (resized(raw.training[train], size), raw.training_labels[train]),
        "held_out": (resized(raw.training[held_out], size), raw.training_labels[held_out]),
        "test": (resized(raw.test, size), raw.test_labels),
    }
    std, mean = torch.std_mean(splits["train"][0], (0, 2, 3), keepdim=True)
    for pixels, _ in splits.values():
        pixels.sub_(mean).div_(std)
    return Dataset(name, splits, raw.classes)


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, channels, size, size) as float32, averaged down by area."""
    # In parts, so that the images at their full size are never all there as floats.
    parts = images.split(CHUNK)  # type: ignore[no-untyped-call]
    return torch.cat([interpolate(part.float(), size, mode="area") for part in parts])
