"""Files that several processes share: written whole or not at all, and claimed by one of them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from meta_train.errors import MetaTrainError


def usable_folder(folder: Path) -> Path:
    """Make a folder, if there is none, and make sure that files can be written to it.

    Raises:
        MetaTrainError: if a file is in its place, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetaTrainError(
            f"cannot make the folder `{folder}`: {error.strerror}.\n"
            "  Give another folder; none of the names in its path may be that of a file."
        ) from error
    if not os.access(folder, os.W_OK):
        raise MetaTrainError(
            f"cannot write to the folder `{folder}`.\n  Give a folder that you may write to."
        )
    return folder


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file of tensors, so that it is there whole or not at all."""
    partial = _partial(path)
    try:
        # safetensors' own files can be read by their owner alone.
        partial.write_bytes(save({n: t.contiguous() for n, t in tensors.items()}, metadata))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of text, so that it is there whole or not at all."""
    partial = _partial(path)
    partial.write_text(text, "utf-8")
    partial.replace(path)


def _partial(path: Path) -> Path:
    # Several processes may write the same file.
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim a file for as long as the context lasts; yields whether it could be had.

    The claim ends with the process, however that ends, so that nothing is left to clear away.
    Without `fcntl`, as on Windows, every claim is granted: run one process there.

    Args:
        path: of the file that is claimed; a file beside it, ending in `.lock`, stays.
        wait: until another process gives it up, instead of yielding False.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
