"""Texts by name, as windows of characters."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from meta_train.data.dataset import Dataset
from meta_train.data.folder import data_file, data_folder
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that all texts consist of, each known by its index; others are left out."""

TINY_SHAKESPEARE_SOURCE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
DESCRIPTIONS = (
    "covtype",
    "diabetes",
    "digits",
    "iris",
    "kddcup99",
    "linnerud",
    "olivetti_faces",
    "rcv1",
)
"""Those of scikit-learn's descriptions that are the same in its versions 1.5 to 1.9."""


def descriptions(folder: Path) -> str:
    """The embedded default: 16,000 characters about data sets, which come with scikit-learn.

    Args:
        folder: not needed.
    """
    shelf = files("sklearn.datasets.descr")
    return "\n".join((shelf / f"{name}.rst").read_text("utf-8") for name in DESCRIPTIONS)


def tiny_shakespeare(folder: Path) -> str:
    """A million characters of Shakespeare's plays.

    Args:
        folder: has `tinyshakespeare/input.txt`.
    """
    path = "tinyshakespeare/input.txt"
    return data_file(folder, path, TINY_SHAKESPEARE_SOURCE).read_text("utf-8")


TEXTS: dict[str, Callable[[Path], str]] = {
    "descriptions": descriptions,
    "tinyshakespeare": tiny_shakespeare,
}
"""What loads each text from the folder of all data sets."""


def text(name: str, length: int) -> Dataset:
    """Load a text as windows (n, length) of characters, and the characters (n, length) after each.

    There is a window at every position. The first 90 % of the text are to learn from, the next 5 %
    are held out, the rest is to test on. All windows of a split share the memory of one text.

    Args:
        name: one of :data:`TEXTS`.
        length: of a window, in characters.

    Raises:
        MetaTrainError: if there is no such text, its file is missing, or it is too short.
    """
    return _text(name, length, data_folder())


@cache
def _text(name: str, length: int, folder: Path) -> Dataset:
    codes = encoded(look_up(TEXTS, name, "text")(folder))
    ends = [len(codes) * 90 // 100, len(codes) * 95 // 100]
    parts = dict(zip(("train", "held_out", "test"), codes.tensor_split(ends), strict=True))
    longest = min(map(len, parts.values())) - 1
    if not 0 < length <= longest:
        raise MetaTrainError(
            f"the text `{name}` cannot be had with length={length}.\n"
            f"  Choose a length from 1 to {longest}: each of its parts must hold a window."
        )
    splits = {
        split: (part[:-1].unfold(0, length, 1), part[1:].unfold(0, length, 1))
        for split, part in parts.items()
    }
    return Dataset(name, splits, classes=len(ALPHABET))


def encoded(text: str) -> Tensor:
    """Index in the alphabet of each character of a text, (n,) int64.

    >>> encoded("A a")
    tensor([34,  1, 66])
    """
    index = {character: i for i, character in enumerate(ALPHABET)}
    return torch.tensor([index[character] for character in text if character in index])
