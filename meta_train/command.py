"""The command line of this process, for files to tell how they came about."""

import shlex
import sys
from pathlib import Path


def command() -> str:
    """What to type to do the same again, without the place where Python found the program."""
    program, *arguments = sys.argv
    path = Path(program)
    if path.name == "__main__.py":
        return shlex.join(["python", "-m", path.parent.name, *arguments])
    return shlex.join([path.name, *arguments])
