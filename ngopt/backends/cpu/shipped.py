"""Loops in C that are written by hand."""

from functools import cache
from importlib.resources import files
from typing import Any

from ngopt.backends.cpu.build import load
from ngopt.backends.kernel import CompileError
from ngopt.backends.switch import give_up


@cache
def shipped(name: str, *flags: str, sizes: int, pointers: int) -> Any:
    """The function `run` of a file in this folder; None if it cannot be compiled, which is said.

    Args:
        name: of the file.
        flags: for the compiler.
        sizes: how many `int64_t` the function takes.
        pointers: how many pointers it takes after them.
    """
    try:
        source = files("ngopt.backends.cpu").joinpath(name).read_text(encoding="utf-8")
        return load(source, *flags, sizes=sizes, pointers=pointers)
    except CompileError as reason:
        give_up(reason)
        return None
