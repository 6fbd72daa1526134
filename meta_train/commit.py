"""The commit of the code at work, for files to tell how they came about."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent


def commit(source: Path = SOURCE) -> str | None:
    """The commit of a source tree, `-dirty` if it was changed since; None outside of git."""
    # The package may be installed somewhere in another project's repository.
    if not (source / ".git").exists():
        return None
    describe = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # No tag is called `-`, so what comes back is always a hash.
        done = subprocess.run([*describe, "--match=-"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
