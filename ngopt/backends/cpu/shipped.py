"""Loops in C that are written by hand."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ngopt.backends.cpu.build import load
from ngopt.backends.kernel import CompileError
from ngopt.backends.switch import give_up


@cache
def shipped(*names: str, flags: Sequence[str] = (), sizes: int, pointers: int) -> Any:
    """The function `run` of files in this folder; None if they cannot be compiled, which is said.

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
        give_up(reason)
        return None


def with_products(name: str, *, double: bool, sizes: int, pointers: int) -> Any:
    """The same of a file that makes products of matrices, in single or double precision."""
    real = ("double", 0) if double else ("float", 1)
    flags = ("-ffp-contract=fast", f"-DREAL={real[0]}", f"-DREAL_IS_FLOAT={real[1]}")
    return shipped("product.c", name, flags=flags, sizes=sizes, pointers=pointers)
