"""What the interpreter can do, and how it is told to."""

import struct
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import torch

from ngopt.fused import rounding
from ngopt.fused.build import load
from ngopt.replay.window import Window, simplified

FUNCTIONS: dict[str, tuple[int, str]] = {
    "fill": (1, "x"),
    "negative": (1, "-a"),
    "absolute": (1, "fabs(a)"),
    "square": (1, "a * a"),
    "root": (1, "sqrt(a)"),
    "inverse_root": (1, "1 / sqrt(a)"),
    "reciprocal": (1, "1 / a"),
    "exponential": (1, "exp(a)"),
    "exponential_less_one": (1, "expm1(a)"),
    "logarithm": (1, "log(a)"),
    "tangent": (1, "tanh(a)"),
    "sigmoid": (1, "1 / (1 + exp(-a))"),
    "relu": (1, "a > 0 ? a : (a != a ? a : 0)"),
    "clamp": (1, "a < x ? x : (a > y ? y : a)"),
    "power": (1, "pow(a, x)"),
    "base": (1, "pow(x, a)"),
    "linear": (1, "a * x + y"),
    "over": (1, "a / x"),
    "under": (1, "x / a"),
    "less": (1, "x - a * y"),
    "plus": (2, "a + x * b"),
    "times": (2, "a * b"),
    "divided": (2, "a / b"),
    "rounded": (2, "rounded_of(a, b)"),
    "larger": (2, "a > b || a != a ? a : b"),
    "smaller": (2, "a < b || a != a ? a : b"),
    "mixed": (2, "x < 0.5f ? a + x * (b - a) : b - (b - a) * (1 - x)"),
    "plus_product": (3, "a + x * b * c"),
    "plus_ratio": (3, "a + x * b / c"),
    "mixed_by": (3, "c < 0.5f ? a + c * (b - a) : b - (b - a) * (1 - c)"),
}
"""Functions of entries: how many they take (`a`, `b`, `c`), and what they are in C. `x` and `y` are
numbers of the instruction."""

TYPES: dict[torch.dtype, int] = {
    torch.float32: 0,
    torch.float64: 1,
    torch.int64: 2,
    torch.bfloat16: 3,
}
"""Places of the types that can be converted to one another; the first two can be computed with."""

MOST = 8
"""Number of dimensions, and of operands, that a function of entries can have."""

POINTWISE, REDUCE, PRODUCT, LAUNCH = range(4)


class Pointwise(NamedTuple):
    """A function of entries.

    Args:
        function: name, of :data:`FUNCTIONS`, or `convert`.
        out: what is written.
        inputs: what is read, of the same shape, and of the same dtype unless it is converted.
        x: a number.
        y: another.
    """

    function: str
    out: Window
    inputs: tuple[Window, ...]
    x: float = 0.0
    y: float = 0.0

    def words(self) -> Iterator[int]:
        """For the interpreter."""
        windows = [self.out, *self.inputs]
        sizes, strides = simplified(windows)
        yield from (self._place(), len(windows), _bits(self.x), _bits(self.y))
        yield from (window.dtype.itemsize for window in windows)
        yield from (len(sizes), *sizes)
        for window, stride in zip(windows, strides, strict=True):
            yield from (window.storage, window.offset, *stride)

    def _place(self) -> int:
        if self.function == "convert":
            types = TYPES[self.inputs[0].dtype], TYPES[self.out.dtype]
            return 2 * len(FUNCTIONS) + len(TYPES) * types[0] + types[1]
        return 2 * list(FUNCTIONS).index(self.function) + TYPES[self.out.dtype]


class Reduce(NamedTuple):
    """A sum over some dimensions, divided by a number.

    Args:
        out: what is written, with the dimensions that are kept.
        window: what is read, with the same, and then those that are summed over.
        divisor: the number.
    """

    out: Window
    window: Window
    divisor: float

    @property
    def inputs(self) -> tuple[Window, ...]:
        """What is read."""
        return (self.window,)

    def words(self) -> Iterator[int]:
        """For the interpreter."""
        kept = len(self.out.shape)
        inside = len(self.window.shape) - kept
        yield from (TYPES[self.out.dtype], _bits(self.divisor), kept, inside)
        yield from self.window.shape
        for window in (self.out, self.window):
            yield from (window.storage, window.offset, *window.stride)


class Product(NamedTuple):
    """Products of matrices, `(batch, row, column)`, plus what is given.

    Args:
        out: what is written.
        left: first factors.
        right: second factors.
        added: what is added, of the shape of the result, if anything.
        beta: number that this is multiplied with.
        alpha: number that the products are multiplied with.
    """

    out: Window
    left: Window
    right: Window
    added: Window | None = None
    beta: float = 1.0
    alpha: float = 1.0

    @property
    def inputs(self) -> tuple[Window, ...]:
        """What is read."""
        return (self.left, self.right, *([] if self.added is None else [self.added]))

    @property
    def operations(self) -> int:
        """Number of multiplications."""
        return self.out.numel() * self.left.shape[-1]

    def words(self) -> Iterator[int]:
        """For the interpreter."""
        yield from (TYPES[self.out.dtype], _bits(self.beta), _bits(self.alpha))
        yield from (*self.out.shape, self.left.shape[-1])
        for window in (self.out, self.left, self.right, self.added):
            if window is None:
                yield from (-1, 0, 0, 0, 0)
            else:
                yield from (window.storage, window.offset, *window.stride)


class Launch(NamedTuple):
    """A loop that is compiled elsewhere.

    Args:
        pointer: address of its code.
        rows: number of rows.
        columns: number of columns.
        inputs: what it reads.
        outputs: what it writes, or adds to what is there.
    """

    pointer: int
    rows: int
    columns: int
    inputs: tuple[Window, ...]
    outputs: tuple[Window, ...]

    def words(self) -> Iterator[int]:
        """For the interpreter."""
        yield from (self.pointer, self.rows, self.columns, len(self.inputs), len(self.outputs))
        for window in (*self.inputs, *self.outputs):
            yield from (window.storage, window.offset)


Instruction: TypeAlias = Pointwise | Reduce | Product | Launch

CODES: dict[type, int] = {Pointwise: POINTWISE, Reduce: REDUCE, Product: PRODUCT, Launch: LAUNCH}


def encoded(instruction: Instruction) -> list[int]:
    """Words of an instruction: its code, how many words there are, and what it says."""
    words = list(instruction.words())
    return [CODES[type(instruction)], len(words) + 2, *words]


@cache
def interpreter() -> Any:
    """The compiled interpreter, a function of the first and last word, all words, and the bases.

    Raises:
        NoCompilerError: if it cannot be compiled here.
    """
    lists = []
    for count in (1, 2, 3):
        items = [f"F({n}, {text})" for n, (c, text) in FUNCTIONS.items() if c == count]
        lists.append(f"#define POINTWISE_{count}(F) {' '.join(items)}\n")
    text = files("ngopt.replay").joinpath("interpreter.c").read_text(encoding="utf-8")
    return load(f"#define MOST {MOST}\n" + "".join(lists) + rounding.SOURCE + text)


def _bits(number: float) -> int:
    found: int = struct.unpack("q", struct.pack("d", number))[0]
    return found
