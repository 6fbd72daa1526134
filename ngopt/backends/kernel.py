"""Interface of kernels: a function of entries that runs on many matrices, on any backend."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ngopt.backends.function import Argument, Function, Result
from ngopt.backends.tables import Addresses, Tables


class CompileError(Exception):
    """There is no working compiler, or nowhere to put what it makes."""


class Kernel(Protocol):
    """Runs a function of entries on many matrices."""

    @property
    def outputs(self) -> int:
        """Number of results that have an address."""

    def on(
        self, sizes: Addresses, arguments: Addresses, results: Addresses, among: Tables
    ) -> Callable[[], None]:
        """Return what computes all results, whenever it is called.

        Args:
            sizes: of each matrix, rows, columns, and from a row to the next of what is pitched, in
                entries, `(matrices, 3)`.
            arguments: where each argument begins, `(matrices, inputs)`: as many numbers as its kind
                says, in the order of a matrix, one after the other.
            results: where each result is put, `(matrices, outputs)`; sums are added to what is
                there.
            among: tables of which these may be some. What is written to those is read anew each
                time, once it has been uploaded.

        Raises:
            CompileError: if it cannot be compiled for where the tables are.
        """


Make: TypeAlias = Callable[[Function, Sequence[Argument], Sequence[Result]], Kernel]
"""Makes a kernel of a function, of what it takes, and of what becomes of its results."""
