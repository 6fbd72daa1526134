"""A function of entries, ready to run on tensors."""

from collections.abc import Callable, Sequence

from ngopt.backends.cpu.build import load
from ngopt.backends.cpu.source import source
from ngopt.backends.function import Argument, Function, Result, number_of_outputs
from ngopt.backends.tables import Addresses, Tables


class Kernel:
    """Runs a function of entries on many matrices, one loop each.

    Args:
        function: see :func:`~ngopt.backends.cpu.source.source`.
        arguments: what it takes.
        results: what becomes of what it returns.

    Attributes:
        inputs: number of arguments, of which each has an address.
        outputs: number of results that have an address: of each in the order of its uses, without
            what overwrites an argument.

    Raises:
        CompileError: if it cannot be compiled here.
    """

    def __init__(
        self, function: Function, arguments: Sequence[Argument], results: Sequence[Result]
    ) -> None:
        self._run = load(source(function, arguments, results), sizes=1, pointers=3)
        self.inputs = len(arguments)
        self.outputs = number_of_outputs(results)

    def on(
        self,
        sizes: Addresses,
        arguments: Addresses,
        results: Addresses,
        among: Tables | None = None,
    ) -> Callable[[], None]:
        """Return what computes all results, whenever it is called.

        Args:
            sizes: of each matrix, rows, columns, and from a row to the next of what is pitched, in
                entries, `(matrices, 3)`.
            arguments: where each argument begins, `(matrices, inputs)`: as many numbers as its kind
                says, in the order of a matrix, one after the other, on the CPU. The table is read
                anew each time.
            results: where each result is put, `(matrices, outputs)`; sums are added to what is
                there. This table is read anew, too.
            among: what these tables belong to; of no importance here.
        """
        tables = (sizes, arguments, results)
        assert all(table.flags.c_contiguous for table in tables)
        pointers = [table.ctypes.data if table.size else None for table in tables]
        run, count = self._run, len(sizes)

        def call() -> None:
            assert tables  # which lie where the pointers say
            run(count, *pointers)

        return call

    def __call__(self, sizes: Addresses, arguments: Addresses, results: Addresses) -> None:
        """Compute all results; the arguments are those of :meth:`on`."""
        self.on(sizes, arguments, results)()
