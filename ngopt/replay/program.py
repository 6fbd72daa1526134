"""A recording, ready to run."""

import ctypes
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ngopt.replay.draft import Draft
from ngopt.replay.instructions import Instruction, Launch, Product, encoded, interpreter
from ngopt.replay.lowering import lower
from ngopt.replay.memory import Life, placed
from ngopt.replay.recorder import Recording, Role
from ngopt.replay.window import Window

LARGE_PRODUCT = 2**21
"""Number of multiplications from which a product of matrices is left to torch."""

KEPT_MEMORY = 2**24
"""Bytes up to which memory for what comes and goes is kept from run to run."""


class Span(NamedTuple):
    """Words of instructions, from the first on, up to the last."""

    first: int
    last: int


Piece: TypeAlias = Span | Product


class Program:
    """Does what was recorded, with other arguments.

    Args:
        recording: what to do.

    Raises:
        UnsupportedError: if there are no instructions for something that was recorded.
        NoCompilerError: if the interpreter cannot be compiled.
    """

    def __init__(self, recording: Recording) -> None:
        self._run = interpreter()
        draft = Draft(recording.storages)
        for call in recording.calls:
            lower(call, draft)
        self._results = list(_owned(draft, recording.results))
        self._storages = draft.storages
        self._given = [n for n, s in enumerate(self._storages) if s.role is Role.GIVEN]
        self._places, self._size = self._plan(draft.instructions)
        words, self._pieces = _pieces(draft.instructions)
        self._words = array("q", words)
        self._address = self._words.buffer_info()[0]
        self._bases = (ctypes.c_void_p * len(self._storages))()
        for number, storage in enumerate(self._storages):
            if storage.tensor is not None:
                self._bases[number] = storage.tensor.untyped_storage().data_ptr()
        self._memory: Tensor | None = None

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """Run it.

        Args:
            given: the arguments, of the shapes, strides and dtypes of those that were recorded.

        Returns:
            The results, new tensors.
        """
        results = [
            torch.empty_strided(window.shape, window.stride, dtype=window.dtype)
            for window in self._results
        ]
        self._once(given, results)
        return results

    def each(self, given: Sequence[Tensor], stacked: Sequence[bool], count: int) -> list[Tensor]:
        """Run it several times.

        Args:
            given: the arguments.
            stacked: which of them have a dimension of runs in front; the others are the same for
                all.
            count: number of runs.

        Returns:
            The results, new tensors, with a dimension of runs in front.
        """
        results = [
            torch.empty_strided(
                (count, *window.shape), (window.numel(), *window.stride), dtype=window.dtype
            )
            for window in self._results
        ]
        parts = [t.unbind() if s else [t] * count for t, s in zip(given, stacked, strict=True)]
        made = [result.unbind() for result in results]
        for run in range(count):
            self._once([part[run] for part in parts], [part[run] for part in made])
        return results

    def _once(self, given: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        bases = self._bases
        for number, tensor in zip(self._given, given, strict=True):
            bases[number] = tensor.data_ptr()
        for window, result in zip(self._results, results, strict=True):
            bases[window.storage] = result.data_ptr()
        memory = self._scratch()
        for piece in self._pieces:
            if isinstance(piece, Span):
                self._run(piece.first, piece.last, self._address, bases)
            else:
                _multiply(piece, lambda window: self._tensor(window, given, results, memory))

    def _scratch(self) -> Tensor:
        """Memory for what comes and goes."""
        if self._memory is not None:
            return self._memory
        memory = torch.empty(self._size, dtype=torch.uint8)
        start = memory.data_ptr()
        for number, offset in self._places.items():
            self._bases[number] = start + offset
        if self._size <= KEPT_MEMORY:
            self._memory = memory
        return memory

    def _tensor(
        self, window: Window, given: Sequence[Tensor], results: Sequence[Tensor], memory: Tensor
    ) -> Tensor:
        """A window as a tensor."""
        number, offset = window.storage, window.offset
        constant = self._storages[number].tensor
        if constant is not None:
            return _seen(constant, window, offset - _start(constant))
        if number in self._places:
            return _seen(memory, window, offset + self._places[number])
        if self._storages[number].role is Role.GIVEN:
            return _seen(given[number], window, offset)
        stores = [result.storage for result in self._results]
        return _seen(results[stores.index(number)], window, offset)

    def _plan(self, instructions: Sequence[Instruction]) -> tuple[dict[int, int], int]:
        """Offsets of what comes and goes, and how much memory it needs in all."""
        results = {window.storage for window in self._results}
        lives: dict[int, Life] = {}
        for time, instruction in enumerate(instructions):
            for window in _touched(instruction):
                number = window.storage
                if self._storages[number].role is Role.MADE and number not in results:
                    before = lives.get(number, Life(self._storages[number].size, time, time))
                    lives[number] = before._replace(last=time)
        return placed(lives)


def _seen(whole: Tensor, window: Window, offset: int) -> Tensor:
    """A window that begins so many bytes after the first entry of a tensor, as a tensor."""
    place = (_start(whole) + offset) // window.dtype.itemsize
    found = torch.empty(0, dtype=window.dtype)
    return found.set_(whole.untyped_storage(), place, window.shape, window.stride)


def _start(tensor: Tensor) -> int:
    """Where in its storage a tensor begins, in bytes."""
    return int(tensor.storage_offset()) * tensor.element_size()


def _multiply(product: Product, tensor: Callable[[Window], Tensor]) -> None:
    """Let torch multiply matrices."""
    out, left, right = map(tensor, (product.out, product.left, product.right))
    if product.added is None:
        torch.bmm(left, right, out=out)
    else:
        added = tensor(product.added)
        torch.baddbmm(added, left, right, beta=product.beta, alpha=product.alpha, out=out)


def _touched(instruction: Instruction) -> tuple[Window, ...]:
    outputs = instruction.outputs if isinstance(instruction, Launch) else (instruction.out,)
    return (*instruction.inputs, *outputs)


def _owned(draft: Draft, results: Sequence[Window]) -> Iterator[Window]:
    """Results, each in memory that is its own and nothing more."""
    seen: set[int] = set()
    for window in results:
        storage = draft.storages[window.storage]
        size = window.numel() * window.dtype.itemsize
        alone = window.storage not in seen and (window.offset, storage.size) == (0, size)
        if storage.role is not Role.MADE or not alone:
            window = draft.kept(window)
        seen.add(window.storage)
        yield window


def _pieces(instructions: Sequence[Instruction]) -> tuple[list[int], list[Piece]]:
    """Words of the interpreter's instructions, and the order in which they and others come."""
    words: list[int] = []
    pieces: list[Piece] = []
    start = 0
    for instruction in instructions:
        if isinstance(instruction, Product) and instruction.operations >= LARGE_PRODUCT:
            if len(words) > start:
                pieces.append(Span(start, len(words)))
            start = len(words)
            pieces.append(instruction)
        else:
            words += encoded(instruction)
    if len(words) > start:
        pieces.append(Span(start, len(words)))
    return words, pieces
