"""A function of entries, ready to run on tensors of a GPU."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ngopt.backends.cpu.build import folder
from ngopt.backends.function import (
    Argument,
    ArgumentShape,
    Function,
    Result,
    Use,
    number_of_outputs,
)
from ngopt.backends.kernel import CompileError
from ngopt.backends.tables import Addresses, Tables, addresses
from ngopt.backends.triton.source import source


@dataclass(frozen=True)
class Tile:
    """What one program of a kernel does.

    Args:
        high: number of rows of a tile, a power of 2.
        wide: number of columns, a power of 2.
        warps: number of groups of 32 threads that share it.
    """

    high: int = 8
    wide: int = 128
    warps: int = 4


TILE = Tile()


class Kernel:
    """Runs a function of entries on many matrices at once.

    Args:
        function: see :func:`~ngopt.backends.triton.source.source`.
        arguments: what it takes.
        results: what becomes of what it returns.
    """

    def __init__(
        self, function: Function, arguments: Sequence[Argument], results: Sequence[Result]
    ) -> None:
        self._run = _load(source(function, arguments, results))
        self.outputs = number_of_outputs(results)

    def on(
        self, sizes: Addresses, arguments: Addresses, results: Addresses, among: Tables
    ) -> Callable[[], None]:
        """Return what computes all results; see :class:`ngopt.backends.kernel.Kernel`."""
        tiles = among.there(tiles_of(sizes))
        if not len(tiles):
            return lambda: None
        given = [tiles, *(among.there(table) for table in (sizes, arguments, results))]
        device = torch.cuda.device(tiles.device.index if tiles.is_cuda else -1)
        size = {"HIGH": TILE.high, "WIDE": TILE.wide, "num_warps": TILE.warps}
        launch = self._run[(len(tiles),)]
        if tiles.is_cuda:
            # Now, where nothing has been overwritten yet.
            try:
                with device:
                    self._run.warmup(*given, grid=(1,), **size)
            except Exception as reason:
                raise CompileError(f"Triton failed: {reason}") from reason

        def call() -> None:
            with device:
                launch(*given, **size)

        return call


def tiles_of(sizes: Addresses) -> Addresses:
    """Tiles of matrices: number of the matrix, first row, and first column, `(tiles, 3)`.

    Args:
        sizes: of each matrix, rows and columns first, `(matrices, 3)`.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for number, (rows, columns) in enumerate(sizes[:, :2]):
        tops, lefts = np.arange(0, rows, TILE.high), np.arange(0, columns, TILE.wide)
        grid = np.stack(np.meshgrid([number], tops, lefts, indexing="ij"), -1)
        found.append(grid.reshape(-1, 3))
    return np.concatenate(found)


def probe(device: torch.device) -> None:
    """Run a small kernel.

    Raises:
        Exception: if kernels do not run there.
    """
    kernel = Kernel(lambda x: [x + x], [Argument(ArgumentShape.ENTRY)], [Result((Use.STORE,))])
    given = torch.ones(2, 3, device=device)
    found = torch.zeros_like(given)
    begin, end = (addresses(tensor, 0)[:, None] for tensor in (given, found))
    kernel.on(np.array([[2, 3, 3]]), begin, end, Tables(device, [begin, end]))()
    if not torch.equal(found, given + given):
        raise RuntimeError("a kernel of Triton computed 1 + 1 wrongly")


def _load(text: str) -> Any:
    """The kernel of a module with this source, which Triton wants in a file."""
    name = f"ngopt_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if name not in sys.modules:
        path = folder() / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader: Any = spec.loader
        loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name].run
