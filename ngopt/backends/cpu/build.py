"""Compile C source with the system's compiler, once, and load it: generated source and files."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ngopt.backends.dispatch import disable
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


@cache
def load_files(*names: str, flags: Sequence[str] = (), sizes: int, pointers: int) -> Any:
    """Compile files of this folder and return their function `run`; None, with a warning, if not.

    Args:
        *names: of the files, one after the other.
        flags: for the compiler.
        sizes: how many `int64_t` the function takes.
        pointers: how many pointers it takes after them.
    """
    try:
        folder = files("ngopt.backends.cpu")
        source = "\n".join(folder.joinpath(n).read_text(encoding="utf-8") for n in names)
        return load(source, *flags, sizes=sizes, pointers=pointers)
    except CompileError as reason:
        disable(reason)
        return None


def load_with_products(name: str, *, double: bool, sizes: int, pointers: int) -> Any:
    """The same for a file that uses products of matrices, in single or double precision."""
    real = ("double", 0) if double else ("float", 1)
    flags = ("-ffp-contract=fast", f"-DREAL={real[0]}", f"-DREAL_IS_FLOAT={real[1]}")
    return load_files("product.c", "lines.c", name, flags=flags, sizes=sizes, pointers=pointers)


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
