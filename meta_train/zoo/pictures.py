"""Images that zoos are made from, and how runs are split."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from meta_train.data.dataset import RawImages
from meta_train.data.folder import data_folder
from meta_train.data.images import IMAGES
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up
from meta_train.zoo.store import SPLITS

BRIGHTEST = 255


def pictures(name: str) -> RawImages:
    """Load a data set of images as bytes, `(n, channels, height, width)` uint8.

    Args:
        name: one of :data:`~meta_train.data.images.IMAGES`.

    Raises:
        MetaTrainError: if there is no such data set, or its files are missing.
    """
    return _pictures(name, data_folder())


@cache
def _pictures(name: str, folder: Path) -> RawImages:
    raw = look_up(IMAGES, name, "image data set")(folder)
    return raw._replace(training=_bytes(raw.training), test=_bytes(raw.test))


def _bytes(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    return (images * (BRIGHTEST / images.max())).round().to(torch.uint8)


def split_counts(runs: int, validation: float, test: float) -> tuple[int, int, int]:
    """Return how many of the runs are to train, to validate and to test on.

    Args:
        runs: in all.
        validation: share of them.
        test: share of them.

    Raises:
        MetaTrainError: if a split would be empty.

    >>> split_counts(10, 0.1, 0.3)
    (6, 1, 3)
    """
    held, tested = round(runs * validation), round(runs * test)
    counts = (runs - held - tested, held, tested)
    if min(counts) < 1:
        raise MetaTrainError(
            f"{runs} runs cannot be split with validation={validation}, test={test}: {counts}.\n"
            "  Give more runs, or shares between 0 and 1 that leave some for each split."
        )
    return counts


def split_of_runs(runs: int, validation: float, test: float, generator: torch.Generator) -> Tensor:
    """Draw the split of each run, `(runs,)`: places in :data:`~meta_train.zoo.store.SPLITS`.

    Args:
        runs: how many.
        validation: share of them.
        test: share of them.
        generator: draws which.

    Raises:
        MetaTrainError: if a split would be empty.
    """
    counts = torch.tensor(split_counts(runs, validation, test))
    codes = torch.arange(len(SPLITS)).repeat_interleave(counts)
    return codes[torch.randperm(runs, generator=generator)]
