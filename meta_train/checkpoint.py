"""Checkpoints that survive a kill at any moment, and random states as plain data to put in them."""

import hashlib
import io
import os
import pickle
import random
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch

from meta_train.errors import MetaTrainError

_NAME = re.compile(r"step-(\d{8,})\.checkpoint")
_PARTIAL = ".partial"
_DIGEST = hashlib.sha256().digest_size


def save(folder: Path, step: int, state: Mapping[str, Any], keep: int = 3) -> Path:
    """Write a checkpoint, so that at every moment either all of it is there or none of it.

    The file holds the SHA-256 digest of what follows, then `torch.save`'s bytes. Of the earlier
    checkpoints the newest ones stay. Those of later steps stay too: the run did not go on from
    there, and replaces them when it comes by.

    Args:
        folder: of the checkpoints of one run; made if there is none.
        step: the outer step after which the state is.
        state: plain data and tensors, nested.
        keep: how many checkpoints stay, this one included.

    Returns:
        The file.

    Raises:
        MetaTrainError: if the state could not be loaded again, or would not be kept.
    """
    if step < 0 or keep < 1:
        raise MetaTrainError(
            f"cannot write a checkpoint with step={step}, keep={keep}.\n  Use step >= 0, keep >= 1."
        )
    payload = _serialised(state)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_partial(folder)
    path = folder / f"step-{step:08d}.checkpoint"
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("wb") as file:
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _flush(folder)
    earlier = [found for at, found in _checkpoints(folder) if at < step]
    for old in earlier[keep - 1 :]:
        old.unlink()
    return path


def latest(
    folder: Path, warn: Callable[[str], None] = warnings.warn
) -> tuple[int, dict[str, Any]] | None:
    """Read the newest checkpoint that is whole; tensors are on the CPU.

    Args:
        folder: of the checkpoints of one run.
        warn: shows a message for each newer checkpoint that is damaged, and which is used instead.

    Returns:
        The outer step and the state, or None if there are no checkpoints.

    Raises:
        MetaTrainError: if there are checkpoints, but none is whole.
    """
    damaged: list[str] = []
    for step, path in _checkpoints(folder):
        try:
            state = _read(path)
        except MetaTrainError as error:
            damaged.append(str(error))
            continue
        for message in damaged:
            warn(f"{message}; using {path} instead")
        return step, state
    if damaged:
        listed = "\n  ".join(damaged)
        raise MetaTrainError(
            f"none of the checkpoints in {folder} can be read:\n  {listed}\n"
            "  Put back a copy of one, or move the folder away to start anew."
        )
    return None


def check_unchanged(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()
) -> None:
    """Make sure that a run goes on with the options that it was begun with.

    Args:
        before: options in the checkpoint, as plain data.
        now: those of this process.
        free: names of the options that may change.

    Raises:
        MetaTrainError: if another option has changed.
    """
    changed = [
        f"{key}: {before.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if key not in free and before.get(key) != value
    ]
    if changed:
        raise MetaTrainError(
            "the run in this folder was begun with other options:\n  "
            + "\n  ".join(changed)
            + "\n  Use those, or another folder."
        )


def random_state() -> dict[str, Any]:
    """State of the random numbers of Python, numpy and torch (CPU and all GPUs), as plain data."""
    name, key, *rest = numpy.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(word) for word in key], *rest),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Make random numbers go on from where :func:`random_state` was called.

    Args:
        state: what it returned; GPUs that are not there now are passed over.
    """
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    for device, saved in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(saved, device)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the random numbers of whoever is around as they are."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _serialised(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    refused = torch.serialization.get_unsafe_globals_in_checkpoint(buffer)
    if refused:
        raise MetaTrainError(
            f"cannot write a checkpoint that holds {', '.join(sorted(refused))}: it would not be "
            "loaded again, since that could run code.\n"
            "  Put only tensors, numbers, strings, dicts, lists and tuples in it."
        )
    return buffer.getvalue()


def _read(path: Path) -> dict[str, Any]:
    """Load a checkpoint, or say what is wrong with it."""
    try:
        content = path.read_bytes()
        digest, payload = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(payload).digest() != digest:
            raise MetaTrainError(f"the checkpoint {path} is damaged (its digest does not fit)")
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise MetaTrainError(f"the checkpoint {path} cannot be read ({reason})") from error
    return dict(state)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and files, newest first."""
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    named = [(found, path) for path in files if (found := _NAME.fullmatch(path.name))]
    return sorted(((int(name[1]), path) for name, path in named), reverse=True)


def _remove_partial(folder: Path) -> None:
    """Remove what processes left that were killed as they wrote."""
    for path in folder.iterdir():
        if path.suffix == _PARTIAL and _NAME.fullmatch(path.stem):
            path.unlink()


def _flush(folder: Path) -> None:
    """Make sure that a new name in a folder outlives a power cut."""
    if os.name != "posix":
        return  # elsewhere folders cannot be opened
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
