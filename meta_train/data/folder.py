"""Where the files of data sets lie: the folder that `NGOPT_DATA` names."""

import os
from pathlib import Path

from meta_train.errors import MetaTrainError


def data_folder() -> Path:
    """Folder of all data sets: `NGOPT_DATA`, by default `~/.cache/ngopt`."""
    return Path(os.environ.get("NGOPT_DATA") or "~/.cache/ngopt").expanduser()


def data_file(folder: Path, path: str, source: str) -> Path:
    """Find a file of a data set.

    Args:
        folder: of all data sets.
        path: of the file in the folder.
        source: where it is published.

    Raises:
        MetaTrainError: if it is not there.
    """
    file = folder / path
    if not file.is_file():
        raise MetaTrainError(
            f"there is no file {file}.\n  Get `{path}` from {source} and put it there, "
            "or set NGOPT_DATA to the folder that has it."
        )
    return file
