"""CIFAR-10, from its original batches for Python."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from meta_train.data.dataset import RawImages
from meta_train.data.folder import data_file
from meta_train.errors import MetaTrainError

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""Sums of the published files: a pickle is code, so no other file is read."""


def cifar10(folder: Path) -> RawImages:
    """Load 50,000 + 10,000 colour pictures of things and animals (n, 3, 32, 32).

    Args:
        folder: has the original batches in `cifar-10-batches-py`.

    Raises:
        MetaTrainError: if a batch is missing or is not the original.
    """
    *training, (test, test_labels) = (_read(folder, name) for name in MD5)
    images, labels = zip(*training, strict=True)
    return RawImages(torch.cat(images), torch.cat(labels), test, test_labels)


def _read(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    file = data_file(folder, f"cifar-10-batches-py/{name}", SOURCE)
    data = file.read_bytes()
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5[name]:
        raise MetaTrainError(
            f"{file} is not the original batch: its MD5 is not {MD5[name]}.\n"
            f"  It was not opened, because it could run code. Get it from {SOURCE}."
        )
    batch = ArraysUnpickler(io.BytesIO(data), encoding="bytes").load()
    images = torch.from_numpy(batch[b"data"]).reshape(-1, 3, 32, 32)
    return images, torch.tensor(batch[b"labels"])


def _dtype(name: bytes, *_: object) -> "np.dtype[Any]":
    # The other arguments are integers in old files, which numpy takes no more.
    return np.dtype(name.decode())


class ArraysUnpickler(pickle.Unpickler):
    """Reads pickles of plain data and numpy arrays, and nothing else.

    Raises:
        pickle.UnpicklingError: if the pickle names anything else.
    """

    ADMITTED: ClassVar[dict[str, Any]] = {
        "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": _dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle stands for."""
        found = self.ADMITTED.get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array.")
        return found
