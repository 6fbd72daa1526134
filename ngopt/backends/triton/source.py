"""From a function of entries to the source of a Triton kernel over tiles of many matrices."""

from collections.abc import Sequence
from typing import Any

import torch

from ngopt.backends.function import Argument, ArgumentShape, Function, Result, Use, Writer
from ngopt.backends.triton.operations import OPERATIONS, PRELUDE

TYPES = {torch.float32: "tl.float32", torch.bfloat16: "tl.bfloat16"}

HEAD = """

# Nobody is to compile anew for tables that begin elsewhere.
@triton.jit(do_not_specialize=["tiles", "sizes", "arguments", "results"])
def run(tiles, sizes, arguments, results, HIGH: tl.constexpr, WIDE: tl.constexpr):
    tile = tiles + 3 * tl.program_id(0)
    matrix = tl.load(tile)
    rows = tl.load(sizes + 3 * matrix)
    columns = tl.load(sizes + 3 * matrix + 1)
    pitch = tl.load(sizes + 3 * matrix + 2)
    arguments += matrix * {arguments}
    results += matrix * {results}
    row_line = tl.load(tile + 1) + tl.arange(0, HIGH)
    column_line = tl.load(tile + 2) + tl.arange(0, WIDE)
    row, column = row_line[:, None], column_line[None, :]
    in_rows, in_columns = row < rows, column < columns
    inside = in_rows & in_columns
    entry = row * columns + column
    pitched = row * pitch + column
    blank = tl.zeros((HIGH, WIDE), tl.float32)
"""

_ENTRIES = {False: ("entry", "rows * columns"), True: ("pitched", "rows * pitch")}
"""Places of entries and how many they take, by whether they are pitched."""


def source(function: Function, arguments: Sequence[Argument], results: Sequence[Result]) -> str:
    """Source of a module with a Triton kernel `run(tiles, sizes, arguments, results, HIGH, WIDE)`.

    Each program does a tile: `tiles` has the number of its matrix, its first row and its first
    column. `sizes`, `arguments` and `results` are those of the C loops
    (:func:`ngopt.backends.cpu.source.source`), all int64.

    Args:
        function: see :meth:`.Writer.write`.
        arguments: what it takes.
        results: what becomes of what it returns.
    """
    writer = _Writer(arguments, results)
    writer.write(function)
    head = HEAD.format(arguments=len(arguments), results=writer.pointers)
    return "\n".join([PRELUDE + head, *(f"    {line}" for line in writer.lines), ""])


class _Writer(Writer):
    language, operations = "Triton", OPERATIONS

    def __init__(self, arguments: Sequence[Argument], results: Sequence[Result]) -> None:
        super().__init__(arguments, results)
        self.lines: list[str] = []
        self.pointers = 0

    def argument(self, name: str, number: int, part: int, argument: Argument) -> None:
        """Load what belongs to the tile."""
        index, length, mask = {
            ArgumentShape.ENTRY: (*_ENTRIES[argument.pitched], "inside"),
            ArgumentShape.ROW: ("row", "rows", "in_rows"),
            ArgumentShape.COLUMN: ("column", "columns", "in_columns"),
            ArgumentShape.SCALAR: ("0", "1", ""),
        }[argument.kind]
        if part == 0:
            self._pointer(f"in_{number}", f"arguments + {number}", argument.dtype)
        masked = f", mask={mask}, other=0.0" if mask else ""
        loaded = f"tl.load(in_{number} + {part} * {length} + {index}{masked})"
        wide = "" if argument.dtype == torch.float32 else ".to(tl.float32)"
        self.lines.append(f"{name} = {loaded}{wide}")

    def _pointer(self, name: str, place: str, dtype: torch.dtype) -> None:
        self.lines.append(f"{name} = tl.load({place}).to(tl.pointer_type({TYPES[dtype]}))")

    def operation(
        self, name: str, operation: str, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        """One assignment."""
        self.lines.append(f"{name} = {self.expression(operation, arguments, options)}")

    def result(self, name: str, result: Result) -> None:
        """Store it, or add up what is inside the matrix."""
        self.lines.append(f"whole = {name} + blank")
        kept = "tl.where(inside, whole, 0.0)"
        for use in result.uses:
            stored = "whole" if result.dtype == torch.float32 else "narrow(whole)"
            if use is Use.STORE and result.into is not None:
                place, _ = _ENTRIES[self.arguments[result.into].pitched]
                self.lines.append(f"tl.store(in_{result.into} + {place}, {stored}, mask=inside)")
                continue
            number, self.pointers = self.pointers, self.pointers + 1
            out = f"out_{number}"
            dtype = result.dtype if use is Use.STORE else torch.float32
            self._pointer(out, f"results + {number}", dtype)
            self.lines.append(
                {
                    Use.STORE: f"tl.store({out} + entry, {stored}, mask=inside)",
                    Use.ROW_SUM: f"tl.atomic_add({out} + row_line, tl.sum({kept}, 1), "
                    "mask=row_line < rows)",
                    Use.COLUMN_SUM: f"tl.atomic_add({out} + column_line, tl.sum({kept}, 0), "
                    "mask=column_line < columns)",
                    Use.SUM: f"tl.atomic_add({out}, tl.sum(tl.sum({kept}, 1), 0))",
                }[use]
            )
