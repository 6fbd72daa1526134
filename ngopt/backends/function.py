"""Functions of single entries, what they take and return; written once, for all backends."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ngopt.errors import NgoptError

ROWS, COLUMNS = 5, 7
"""Sizes of the examples that functions are traced with; whatever else they are, they differ."""


class ArgumentShape(Enum):
    """Shape of an argument, which broadcasts to the entries of a matrix."""

    ENTRY = (ROWS, COLUMNS)
    ROW = (ROWS, 1)
    COLUMN = (1, COLUMNS)
    SCALAR = ()

    @classmethod
    def of(cls, shape: torch.Size) -> "ArgumentShape":
        """The kind of an intermediate result."""
        return cls.SCALAR if shape.numel() == 1 else cls(tuple(shape))


class Use(Enum):
    """What becomes of a result."""

    STORE = "store"
    ROW_SUM = "row sum"
    COLUMN_SUM = "column sum"
    SUM = "sum"


Function = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True)
class Argument:
    """An argument of a function of entries.

    Args:
        kind: how many numbers there are.
        dtype: `torch.float32`, or `torch.bfloat16` for entries.
        count: how many arguments of the function it is; in memory one comes after the other.
        pitched: of entries, whether rows begin as far apart as the matrix says, not one after the
            other.
    """

    kind: ArgumentShape
    dtype: torch.dtype = torch.float32
    count: int = 1
    pitched: bool = False

    def example(self) -> Tensor:
        """Any tensor of this kind; not a random one, for the random state is the user's."""
        return torch.ones(self.kind.value, dtype=self.dtype, device="cpu")


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


def number_of_outputs(results: Sequence[Result]) -> int:
    """How many results have an address: of each its uses, without what overwrites an argument."""
    return sum(
        use is not Use.STORE or result.into is None for result in results for use in result.uses
    )


class Call(NamedTuple):
    """An operation of ATen on named numbers.

    Args:
        name: of its result.
        operation: such as `mul`.
        arguments: names of numbers, and literals.
        options: literals by keyword.
        shape: of its result.
    """

    name: str
    operation: str
    arguments: list[Any]
    options: dict[str, Any]
    shape: torch.Size


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations on examples."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.names: dict[int, str] = {}
        self._alive: list[Tensor] = []

    def add(self, tensor: Tensor, name: str) -> str:
        """Give a name to a tensor, which is kept, so that no other gets its place in memory."""
        self._alive.append(tensor)
        self.names[id(tensor)] = name
        return name

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        operation = str(func).split(".")[1]
        arguments = [self.names[id(a)] if isinstance(a, Tensor) else a for a in args]
        if operation in ("view", "expand"):
            arguments = arguments[:1]
        name = self.add(result, f"{operation}_{len(self.calls)}")
        self.calls.append(Call(name, operation, arguments, options, result.shape))
        return result

    def needed_for(self, names: Sequence[str]) -> list[Call]:
        """The calls on which these numbers depend, in order."""
        needed = set(names)
        kept = []
        for call in reversed(self.calls):
            if call.name in needed:
                kept.append(call)
                needed.update(a for a in call.arguments if isinstance(a, str))
        return kept[::-1]


Emit = Callable[..., str]
"""Writes an operation down, given names of variables and literals."""


class Writer(ABC):
    """Writes a function of entries down in another language, operation by operation.

    Args:
        arguments: what it takes.
        results: what becomes of what it returns.
    """

    language: ClassVar[str]
    operations: ClassVar[Mapping[str, Emit]]
    """By name of the operation of ATen."""
    suffix: ClassVar[str] = ""
    """Of literals of single precision."""

    def __init__(self, arguments: Sequence[Argument], results: Sequence[Result]) -> None:
        self.arguments, self.results = arguments, results
        self.kinds: dict[str, ArgumentShape] = {}

    def write(self, function: Function) -> None:
        """Write it down.

        Args:
            function: takes a tensor for each argument, of a shape that broadcasts to `(rows,
                columns)`, and returns one of that shape for each result; made of single operations.
        """
        recorder, examples = _Recorder(), []
        for number, argument in enumerate(self.arguments):
            for part in range(argument.count):
                examples.append(argument.example())
                name = recorder.add(examples[-1], f"argument_{number}_{part}")
                self.kinds[name] = argument.kind
                self.argument(name, number, part, argument)
        with torch.no_grad(), recorder:
            values = function(*examples)
        outputs = [recorder.names[id(value)] for value in values]
        for call in recorder.needed_for(outputs):
            self.kinds[call.name] = ArgumentShape.of(call.shape)
            self.operation(call.name, call.operation, call.arguments, call.options)
        for name, result in zip(outputs, self.results, strict=True):
            self.result(name, result)

    def expression(
        self, operation: str, arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> str:
        """An operation of ATen on names of variables and on numbers.

        Raises:
            NgoptError: if there is no such operation here.
        """
        if operation not in self.operations:
            raise NgoptError(
                f"a function of entries uses {operation}, which is not there in {self.language}.\n"
                f"  Use any of: {', '.join(self.operations)}; or add it to the operations beside "
                f"{type(self).__module__}."
            )
        named = {k: self._literal(value) for k, value in options.items() if k in ("alpha", "value")}
        return self.operations[operation](*map(self._literal, arguments), **named)

    def _literal(self, value: Any) -> str:
        return value if isinstance(value, str) else f"{float(value)!r}{self.suffix}"

    @abstractmethod
    def argument(self, name: str, number: int, part: int, argument: Argument) -> None:
        """Load one of the numbers of an argument under a name."""

    @abstractmethod
    def operation(
        self, name: str, operation: str, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        """Give a name to the result of an operation of ATen on names and numbers."""

    @abstractmethod
    def result(self, name: str, result: Result) -> None:
        """Do with a number what is to be done with a result."""
