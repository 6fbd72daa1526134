"""From a function of entries to the C source of one loop over all of them."""

from collections.abc import Sequence
from typing import Any

import torch

from ngopt.backends.cpu.operations import OPERATIONS, PRELUDE
from ngopt.backends.function import Argument, ArgumentShape, Function, Result, Use, Writer

TYPES = {torch.float32: "float", torch.bfloat16: "uint16_t"}


def source(function: Function, arguments: Sequence[Argument], results: Sequence[Result]) -> str:
    """C source of a loop over matrices.

    It is `void run(int64_t matrices, int64_t *sizes, void **arguments, void **results)`.
    Sizes of each matrix are rows, columns, and from a row to the next of what is pitched. Of each
    matrix there is a pointer to each argument, then of the next one. So it is with results, in the
    order of results and their uses; sums are added to, and what overwrites an argument has no
    pointer.

    Args:
        function: see :meth:`.Writer.write`.
        arguments: what it takes.
        results: what becomes of what it returns.
    """
    writer = _Writer(arguments, results)
    writer.write(function)
    return writer.text()


class _Writer(Writer):
    language, operations = "C", OPERATIONS
    suffix = "f"

    def __init__(self, arguments: Sequence[Argument], results: Sequence[Result]) -> None:
        super().__init__(arguments, results)
        self.heads: list[str] = []
        self.lines: dict[ArgumentShape, list[str]] = {kind: [] for kind in ArgumentShape}
        self.row_sums: list[str] = []
        self.sums: list[str] = []
        self.pointers = 0
        self.written = {result.into for result in results}
        self.names: dict[int, str] = {}

    def argument(self, name: str, number: int, part: int, argument: Argument) -> None:
        """A pointer to where it begins, and the number at its place."""
        index, length = {
            ArgumentShape.ENTRY: (_entry(argument), f"rows * {_pitch(argument)}"),
            ArgumentShape.ROW: ("row", "rows"),
            ArgumentShape.COLUMN: ("column", "columns"),
            ArgumentShape.SCALAR: ("0", "1"),
        }[argument.kind]
        c_type = (
            TYPES[argument.dtype] if number in self.written else f"const {TYPES[argument.dtype]}"
        )
        place = f"({c_type} *)arguments[{number}] + {part} * {length}"
        self.heads.append(f"{c_type} *restrict in_{name} = {place};")
        self.names[number] = f"in_{name}"
        loaded = f"in_{name}[{index}]"
        value = loaded if argument.dtype == torch.float32 else f"wide({loaded})"
        self._define(name, argument.kind, value)

    def operation(
        self, name: str, operation: str, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        """One constant, where it need not be computed more often."""
        kind = self.kinds[name]
        if operation == "div" and kind is ArgumentShape.ENTRY:
            operation, arguments[1] = self._inverted(name, arguments[1])
        self._define(name, kind, self.expression(operation, arguments, options))

    def _inverted(self, name: str, divisor: Any) -> tuple[str, Any]:
        # A division takes many times as long as a product: one by what all entries of a row share
        # is done once for all of them.
        kind = self.kinds.get(divisor, ArgumentShape.ENTRY)
        if kind not in (ArgumentShape.SCALAR, ArgumentShape.ROW):
            return "div", divisor
        inverse = f"{name}_inverse"
        self._define(inverse, kind, self.expression("reciprocal", [divisor], {}))
        return "mul", inverse

    def _define(self, name: str, kind: ArgumentShape, value: str) -> None:
        self.kinds[name] = kind
        self.lines[kind].append(f"const float {name} = {value};")

    def result(self, name: str, result: Result) -> None:
        """Store or sum up."""
        entry = self.lines[ArgumentShape.ENTRY]
        stored = name if result.dtype == torch.float32 else f"narrow({name})"
        for use in result.uses:
            if use is Use.STORE and result.into is not None:
                entry.append(
                    f"{self.names[result.into]}[{_entry(self.arguments[result.into])}] = {stored};"
                )
                continue
            number, self.pointers = self.pointers, self.pointers + 1
            c_type = TYPES[result.dtype] if use is Use.STORE else "float"
            self.heads.append(f"{c_type} *restrict out_{number} = results[{number}];")
            if use is Use.STORE:
                entry.append(f"out_{number}[row * columns + column] = {stored};")
            elif use is Use.COLUMN_SUM:
                entry.append(f"out_{number}[column] += {name};")
            elif use is Use.ROW_SUM:
                entry.append(f"sum_{number} += {name};")
                self.row_sums.append(str(number))
            else:
                entry.append(f"sum_{number} += {name};")
                self.sums.append(str(number))

    def text(self) -> str:
        """The whole source."""
        partial = [*self.row_sums, *self.sums]
        clause = f" reduction(+: {', '.join(f'sum_{n}' for n in partial)})" if partial else ""
        inner = [*self.lines[ArgumentShape.COLUMN], *self.lines[ArgumentShape.ENTRY]]
        body = [
            *self.heads,
            *self.lines[ArgumentShape.SCALAR],
            *(f"double total_{n} = 0;" for n in self.sums),
            "for (int64_t row = 0; row < rows; row++) {",
            *self.lines[ArgumentShape.ROW],
            *(f"float sum_{n} = 0;" for n in partial),
            f"#pragma omp simd{clause}",
            "for (int64_t column = 0; column < columns; column++) {",
            *inner,
            "}",
            *(f"out_{n}[row] += sum_{n};" for n in self.row_sums),
            *(f"total_{n} += sum_{n};" for n in self.sums),
            "}",
            *(f"out_{n}[0] += (float)total_{n};" for n in self.sums),
        ]
        sizes, pointers = (
            "int64_t rows, int64_t columns, int64_t pitch",
            "void **arguments, void **results",
        )
        each = [
            "void run(int64_t matrices, int64_t *sizes, void **arguments, void **results) {",
            "for (int64_t n = 0; n < matrices; n++)",
            f"one(sizes[3 * n], sizes[3 * n + 1], sizes[3 * n + 2], "
            f"arguments + n * {len(self.arguments)}, "
            f"results + n * {self.pointers});",
            "}",
        ]
        head = f"static void one({sizes}, {pointers}) {{"
        return "\n".join([PRELUDE, head, *body, "}", *each, ""])


def _pitch(argument: Argument) -> str:
    return "pitch" if argument.pitched else "columns"


def _entry(argument: Argument) -> str:
    """Place of an entry among those of an argument."""
    return f"row * {_pitch(argument)} + column"
