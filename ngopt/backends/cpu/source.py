"""From a function of entries to the C source of one loop over all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from ngopt.backends.cpu.kinds import Kind, Use
from ngopt.backends.cpu.operations import PRELUDE, emit

Function = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True)
class Argument:
    """An argument of a function of entries.

    Args:
        kind: how many numbers there are.
        dtype: `torch.float32`, or `torch.bfloat16` for entries.
        count: how many arguments of the function it is; in memory one comes after the other.
    """

    kind: Kind
    dtype: torch.dtype = torch.float32
    count: int = 1

    def example(self) -> Tensor:
        """Any tensor of this kind; not a random one, for the random state is the user's."""
        return torch.ones(self.kind.value, dtype=self.dtype)


class Result(NamedTuple):
    """A result of a function of entries, one number per entry.

    Args:
        uses: what becomes of it.
        dtype: in which it is stored.
        into: number of the argument, of kind entry and of this dtype, that it overwrites where it
            is stored; by default it goes elsewhere.
    """

    uses: tuple[Use, ...]
    dtype: torch.dtype = torch.float32
    into: int | None = None


TYPES = {torch.float32: "float", torch.bfloat16: "uint16_t"}


def source(function: Function, arguments: Sequence[Argument], results: Sequence[Result]) -> str:
    """C source of a loop over matrices.

    It is `void run(int64_t matrices, int64_t *sizes, void **arguments, void **results)`.
    Sizes are rows and columns of each matrix. Of each matrix there is a pointer to each argument,
    then of the next one. So it is with results, in the order of results and their uses; sums are
    added to, and what overwrites an argument has no pointer.

    Args:
        function: takes a tensor for each argument, of a shape that broadcasts to `(rows,
            columns)`, and returns one of that shape for each result; made of single operations.
        arguments: what it takes.
        results: what becomes of what it returns.
    """
    with torch.no_grad():
        examples = [argument.example() for argument in arguments for _ in range(argument.count)]
        traced = make_fx(function)(*examples)
    writer = _Writer(arguments, results)
    for node in traced.graph.nodes:
        writer.take(node)
    return writer.text()


class _Writer:
    def __init__(self, arguments: Sequence[Argument], results: Sequence[Result]) -> None:
        self.waiting = [
            (number, part, argument)
            for number, argument in enumerate(arguments)
            for part in range(argument.count)
        ]
        self.results = results
        self.heads: list[str] = []
        self.lines: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        self.kinds: dict[str, Kind] = {}
        self.row_sums: list[str] = []
        self.sums: list[str] = []
        self.pointers = 0
        self.written = {result.into for result in results}
        self.arguments = len(arguments)
        self.names: dict[int, str] = {}

    def take(self, node: fx.Node) -> None:
        """Write down one node of the traced function."""
        if node.op == "placeholder":
            self._argument(node.name, *self.waiting.pop(0))
        elif node.op == "call_function":
            self._operation(node)
        elif node.op == "output":
            (values,) = node.args
            assert isinstance(values, (tuple, list))
            for value, result in zip(values, self.results, strict=True):
                assert isinstance(value, fx.Node)
                self._result(value.name, result)
        else:
            raise TypeError(f"{node.op} in a function of entries")

    def _argument(self, name: str, number: int, part: int, argument: Argument) -> None:
        index, length = {
            Kind.ENTRY: ("row * columns + column", "rows * columns"),
            Kind.ROW: ("row", "rows"),
            Kind.COLUMN: ("column", "columns"),
            Kind.SCALAR: ("0", "1"),
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

    def _operation(self, node: fx.Node) -> None:
        name = str(node.target).split(".")[1]
        arguments = [a.name if isinstance(a, fx.Node) else a for a in node.args]
        if name in ("view", "expand"):
            arguments = arguments[:1]
        kind = Kind.of(node.meta["val"].shape)
        if name == "div" and kind is Kind.ENTRY:
            name, arguments[1] = self._inverted(node.name, arguments[1])
        self._define(node.name, kind, emit(name, arguments, node.kwargs))

    def _inverted(self, name: str, divisor: Any) -> tuple[str, Any]:
        # A division takes many times as long as a product: one by what all entries of a row share
        # is done once for all of them.
        kind = self.kinds.get(divisor, Kind.ENTRY)
        if kind not in (Kind.SCALAR, Kind.ROW):
            return "div", divisor
        inverse = f"{name}_inverse"
        self._define(inverse, kind, emit("reciprocal", [divisor], {}))
        return "mul", inverse

    def _define(self, name: str, kind: Kind, value: str) -> None:
        self.kinds[name] = kind
        self.lines[kind].append(f"const float {name} = {value};")

    def _result(self, name: str, result: Result) -> None:
        entry = self.lines[Kind.ENTRY]
        stored = name if result.dtype == torch.float32 else f"narrow({name})"
        for use in result.uses:
            if use is Use.STORE and result.into is not None:
                entry.append(f"{self.names[result.into]}[row * columns + column] = {stored};")
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
        inner = [*self.lines[Kind.COLUMN], *self.lines[Kind.ENTRY]]
        body = [
            *self.heads,
            *self.lines[Kind.SCALAR],
            *(f"double total_{n} = 0;" for n in self.sums),
            "for (int64_t row = 0; row < rows; row++) {",
            *self.lines[Kind.ROW],
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
        sizes, pointers = "int64_t rows, int64_t columns", "void **arguments, void **results"
        each = [
            "void run(int64_t matrices, int64_t *sizes, void **arguments, void **results) {",
            "for (int64_t n = 0; n < matrices; n++)",
            f"one(sizes[2 * n], sizes[2 * n + 1], arguments + n * {self.arguments}, "
            f"results + n * {self.pointers});",
            "}",
        ]
        head = f"static void one({sizes}, {pointers}) {{"
        return "\n".join([PRELUDE, head, *body, "}", *each, ""])
