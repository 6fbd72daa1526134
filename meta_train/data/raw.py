"""Images as they are published, before they are split and standardised."""

from typing import NamedTuple

from torch import Tensor


class RawImages(NamedTuple):
    """All images of a data set, of one size.

    Args:
        training: images to learn from, (n, channels, height, width), of any dtype.
        training_labels: their classes, (n,) int64.
        test: images to test on, (m, channels, height, width).
        test_labels: their classes, (m,) int64.
        classes: how many there are.
    """

    training: Tensor
    training_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int = 10
