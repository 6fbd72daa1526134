"""Files of a zoo that are there whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file of tensors, so that it is there whole or not at all."""
    partial = _partial(path)
    try:
        save_file({n: t.contiguous() for n, t in tensors.items()}, partial, metadata)
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
