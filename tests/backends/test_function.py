"""Functions of entries, written down operation by operation."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ngopt.backends.function import Argument, ArgumentShape, Result, Use, Writer
from ngopt.errors import NgoptError

ENTRY, NUMBER = Argument(ArgumentShape.ENTRY), Argument(ArgumentShape.SCALAR)
STORED = Result((Use.STORE,))


class Lines(Writer):
    """Writes lines that are Python."""

    language = "Python"
    operations: ClassVar = {
        "add": lambda a, b: f"{a} + {b}",
        "mul": lambda a, b: f"{a} * {b}",
        "neg": lambda a: f"-{a}",
        "detach": lambda a: a,
    }

    def __init__(self, arguments: list[Argument], results: list[Result]) -> None:
        super().__init__(arguments, results)
        self.lines: list[str] = []
        self.results_found: list[str] = []

    def argument(self, name: str, number: int, part: int, argument: Argument) -> None:
        """A line for an argument."""
        self.lines.append(f"{name} = given[{number}][{part}]")

    def operation(
        self, name: str, operation: str, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        """A line for an operation."""
        self.lines.append(f"{name} = {self.expression(operation, arguments, options)}")

    def result(self, name: str, result: Result) -> None:
        """Remember the name."""
        self.results_found.append(name)

    def run(self, given: list[list[float]]) -> list[float]:
        """Do what the lines say."""
        names: dict[str, Any] = {"given": given}
        exec("\n".join(self.lines), names)
        return [names[name] for name in self.results_found]


def test_a_function_is_written_operation_by_operation() -> None:
    writer = Lines([ENTRY, Argument(ArgumentShape.SCALAR, count=2)], [STORED, STORED])
    writer.write(lambda x, a, b: [x * a + b, -x.detach() * 3.0])
    assert writer.run([[5.0], [2.0, 1.0]]) == [11.0, -15.0]


def test_what_no_result_needs_is_left_out() -> None:
    def function(x: Tensor) -> list[Tensor]:
        torch.cosh(x)  # which this language does not have
        return [x + 1.0]

    writer = Lines([ENTRY], [STORED])
    writer.write(function)
    assert len(writer.lines) == 2


def test_an_argument_may_be_a_result() -> None:
    writer = Lines([ENTRY, NUMBER], [STORED, STORED])
    writer.write(lambda x, a: [a, x])
    assert writer.run([[5.0], [2.0]]) == [2.0, 5.0]


def test_kinds_of_intermediate_results_are_known() -> None:
    row, column = Argument(ArgumentShape.ROW), Argument(ArgumentShape.COLUMN)
    writer = Lines([row, column, NUMBER], [STORED])
    writer.write(lambda x, y, a: [(x * a) * (y + a)])
    product, shifted, outer = list(writer.kinds.values())[-3:]
    assert (product, shifted) == (ArgumentShape.ROW, ArgumentShape.COLUMN)
    assert outer is ArgumentShape.ENTRY


def test_an_operation_that_the_language_lacks_is_refused() -> None:
    with pytest.raises(NgoptError, match="uses cosh, which is not there in Python"):
        Lines([ENTRY], [STORED]).write(lambda x: [torch.cosh(x)])
