"""Results in files, so that what takes long is computed once."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meta_train.provenance import command


def cached(
    folder: Path | None, label: str, key: Mapping[str, Any], compute: Callable[[], Any]
) -> Any:
    """Return a result from its file, or compute it and write the file.

    A file that is damaged is written anew, with a warning. Files keep the command that wrote them.

    Args:
        folder: of the files; made if there is none. Without a folder, nothing is kept.
        label: what the name of the file begins with.
        key: everything that the result depends on, as plain data.
        compute: returns the result, as plain data.
    """
    if folder is None:
        return compute()
    wanted = json.loads(json.dumps(key))
    name = re.sub(r"[^\w.]+", "_", label)
    path = folder / f"{name}-{digest(wanted)[:16]}.json"
    if path.is_file():
        try:
            return _read(path, wanted)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged ({error}); computing it again.", stacklevel=2)
    result = compute()
    _write(path, wanted, result)
    return result


def _read(path: Path, key: Any) -> Any:
    content = json.loads(path.read_text())
    if content["key"] != key or content["sha256"] != digest([key, content["result"]]):
        raise ValueError("its digest does not fit")
    return content["result"]


def _write(path: Path, key: Any, result: Any) -> None:
    content = {
        "key": key,
        "command": command(),
        "sha256": digest([key, result]),
        "result": result,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may write the same file, and one may be killed as it does.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def digest(plain: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
