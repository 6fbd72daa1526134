"""Compile C source with the system's compiler, once, and load it."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ngopt.backends.kernel import CompileError

FLAGS = (
    "-O3",
    "-march=native",
    "-std=c11",
    "-fPIC",
    "-shared",
    "-fopenmp-simd",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
)


def folder() -> Path:
    """Where compiled code is kept, for this user alone."""
    found = Path(os.environ.get("NGOPT_KERNELS", "~/.cache/ngopt/kernels")).expanduser()
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = found.stat()
    # What is in it is run: nobody else may have put it there.
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise CompileError(f"others may write to {found}")
    return found


def load(source: str, *flags: str, sizes: int, pointers: int) -> Any:
    """Compile a source, or find it compiled, and return its function `run`.

    Args:
        source: the source.
        flags: for the compiler, besides :data:`FLAGS`.
        sizes: how many `int64_t` the function takes.
        pointers: how many pointers it takes after them.

    Raises:
        CompileError: if that cannot be done here.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompileError("there is no C compiler (cc, gcc or $CC)")
    flags = (*FLAGS, *flags)
    key = "\n".join([source, compiler, *flags, platform.machine(), _processor()])
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        path = folder() / f"{name}.so"
        if not path.is_file():
            _compile([compiler, *flags], source, path)
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CompileError(str(error)) from error
    run = library.run
    run.argtypes = [*[ctypes.c_int64] * sizes, *[ctypes.c_void_p] * pointers]
    run.restype = None
    return run


def _compile(command: list[str], source: str, path: Path) -> None:
    # In a folder of its own and then moved, so that another process never loads half a file.
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        code, made = Path(place) / "run.c", Path(place) / "run.so"
        code.write_text(source)
        done = subprocess.run(
            [*command, str(code), "-o", str(made), "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CompileError(f"{command[0]} failed:\n{done.stderr[:2000]}")
        made.replace(path)


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), "")
