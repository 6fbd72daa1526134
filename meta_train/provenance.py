"""The command line and the commit of this process, for files to tell how they came about."""

import shlex
import subprocess
import sys
from pathlib import Path


def command() -> str:
    """What to type to do the same again, without the place where Python found the program."""
    program, *arguments = sys.argv
    path, spec = Path(program), getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.origin == program:
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *arguments])
    if path.name == "__main__.py":
        return shlex.join(["python", "-m", path.parent.name, *arguments])
    return shlex.join([path.name, *arguments])


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
