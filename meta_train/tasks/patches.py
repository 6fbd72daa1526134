"""Images cut into square patches."""

from torch import Tensor

from meta_train.errors import MetaTrainError


def patches(images: Tensor, size: int) -> Tensor:
    """Cut images into patches, row by row.

    Args:
        images: (batch, channels, height, width).
        size: of the patches in pixels; divides height and width.

    Returns:
        (batch, patches, channels * size * size).

    Raises:
        MetaTrainError: if the patches do not tile the images.
    """
    height, width = images.shape[-2:]
    if height % size or width % size:
        raise MetaTrainError(
            f"images of {height} x {width} pixels cannot be cut into patches of {size} x {size}.\n"
            "  Choose sizes of patches that divide the size of the images."
        )
    grid = (height // size, size, width // size, size)
    tiles = images.reshape(*images.shape[:2], *grid)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
