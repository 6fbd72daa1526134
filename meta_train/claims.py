"""Runs claimed by processes, so that several share the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
