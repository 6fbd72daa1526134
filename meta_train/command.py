"""The command line of this process, for files to tell how they came about."""

import shlex
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
