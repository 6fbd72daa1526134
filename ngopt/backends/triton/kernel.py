"""A function of entries, ready to run on tensors of a GPU."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ngopt.backends.cpu.build import folder
from ngopt.backends.function import Argument, Function, Result
from ngopt.backends.triton.source import source

HIGH, WIDE = 8, 128
"""Rows and columns of a tile."""


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

    def __call__(self, tiles: Tensor, sizes: Tensor, arguments: Tensor, results: Tensor) -> None:
        """Compute all results.

        Args:
            tiles: see :func:`tiles_of`.
            sizes: rows and columns of each matrix, `(matrices, 2)`, as all that follow int64.
            arguments: where each argument begins, `(matrices, inputs)`.
            results: where each result is put, `(matrices, outputs)`; sums are added to what is
                there.
        """
        self._run[(len(tiles),)](tiles, sizes, arguments, results, HIGH=HIGH, WIDE=WIDE)


def tiles_of(sizes: Sequence[Sequence[int]]) -> Tensor:
    """Tiles of matrices: number of the matrix, first row, and first column, `(tiles, 3)`.

    Args:
        sizes: rows and columns of each matrix.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for number, (rows, columns) in enumerate(sizes):
        tops, lefts = np.arange(0, rows, HIGH), np.arange(0, columns, WIDE)
        grid = np.stack(np.meshgrid([number], tops, lefts, indexing="ij"), -1)
        found.append(grid.reshape(-1, 3))
    return torch.from_numpy(np.concatenate(found))


def _load(text: str) -> Any:
    """The kernel of a module with this source, which Triton wants in a file."""
    name = f"ngopt_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if name not in sys.modules:
        path = folder() / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name].run
