"""The embedded default: scikit-learn's digits, 1,797 images of 8 x 8 pixels."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from meta_train.data.raw import RawImages

TEST = 300


def digits(folder: Path) -> RawImages:
    """Load 1,497 + 300 images (n, 1, 8, 8), mixed once for all: their order tells their writers.

    Args:
        folder: not needed, the images come with scikit-learn.
    """
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    training, test = mixed[:-TEST], mixed[-TEST:]
    return RawImages(images[training], labels[training], images[test], labels[test])
