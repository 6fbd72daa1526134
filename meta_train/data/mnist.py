"""MNIST and FashionMNIST, from their original gzipped IDX files."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from meta_train.data.dataset import RawImages
from meta_train.data.folder import data_file
from meta_train.errors import MetaTrainError

MNIST_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_SOURCE = "https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion"
UNSIGNED_BYTES = 8


def mnist(folder: Path) -> RawImages:
    """Load 60,000 + 10,000 handwritten digits (n, 1, 28, 28).

    Args:
        folder: has the four original files in `MNIST/raw`.
    """
    return _four_files(folder, "MNIST", MNIST_SOURCE)


def fashion_mnist(folder: Path) -> RawImages:
    """Load 60,000 + 10,000 pictures of clothes (n, 1, 28, 28).

    Args:
        folder: has the four original files in `FashionMNIST/raw`.
    """
    return _four_files(folder, "FashionMNIST", FASHION_SOURCE)


def read_idx(file: Path) -> Tensor:
    """Read a gzipped IDX file of bytes.

    Returns:
        Tensor of uint8, of the shape that the file says.

    Raises:
        MetaTrainError: if the file is damaged or of another kind.
    """
    try:
        data = gzip.decompress(file.read_bytes())
        zero, kind, dims = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{dims}I", data, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise _damaged(file) from error
    start = 4 + 4 * dims
    if (zero, kind) != (0, UNSIGNED_BYTES) or len(data) - start != math.prod(shape):
        raise _damaged(file)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[start:].reshape(shape)


def _four_files(folder: Path, name: str, source: str) -> RawImages:
    def read(file: str) -> Tensor:
        return read_idx(data_file(folder, f"{name}/raw/{file}-ubyte.gz", source))

    return RawImages(
        read("train-images-idx3").unsqueeze(1),
        read("train-labels-idx1").long(),
        read("t10k-images-idx3").unsqueeze(1),
        read("t10k-labels-idx1").long(),
    )


def _damaged(file: Path) -> MetaTrainError:
    return MetaTrainError(
        f"{file} is no complete gzipped IDX file of bytes.\n  Download the original file again."
    )
