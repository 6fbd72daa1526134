"""Messages along many bundles at once, by products that are compiled."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ngopt.backends.cpu.messages import multiply
from ngopt.backends.tables import Addresses
from ngopt.features.survey import Matrices
from ngopt.rules.buckets.places import Piece

FLOAT = 4
"""Bytes of a number."""

CARRIED = len(Matrices._fields)
"""Number of matrices that carry messages along the entries of a bundle."""

CHUNK = 2**17
"""Number of entries whose matrices are there at once. So few stay in a cache, and are made anew for
each round in less time than reading them from memory would take."""


class Way(NamedTuple):
    """The way from lines at one end of matrices to those at the other, where there are neurons.

    Args:
        matrix: number of each matrix among those that are carried at once.
        run: of each.
        to: its first line among all that are told.
        tell: its first line among those of all bundles that tell.
        sizes: of each, for :func:`.multiply`.
    """

    matrix: Addresses
    run: Addresses
    to: Addresses
    tell: Addresses
    sizes: Addresses

    def say(self, places: Addresses, states: Tensor, said: Tensor) -> None:
        """Put down the products with all matrices.

        Args:
            places: where the matrices begin, in bytes.
            states: of all that tell, `(runs, lines, width)`, contiguous.
            said: to all that are told, `(runs, lines, CARRIED, width)`.
        """
        told, tell, width = said.shape[1], states.shape[1], states.shape[2] * FLOAT
        begin = states.data_ptr() + (self.run * tell + self.tell) * width
        end = said.data_ptr() + (self.run * told + self.to) * CARRIED * width
        where = np.stack([places[self.matrix], begin, end], 1)
        multiply(self.sizes, where, CARRIED, states.shape[2])


Ways = tuple[Way, Way]
"""To outputs and to inputs."""


class Group:
    """Pieces of buckets along which messages are carried together.

    Args:
        pieces: the pieces; those of a bucket stand together.
        run: of each matrix of all pieces, number of the run.
        ends: of each, where its outputs and its inputs begin among those of all bundles.

    Attributes:
        lines: how many outputs are told, and how many inputs.
        tapped: pieces whose matrices are means over taps.
        few: numbers of all other matrices, if they are few.
        kept: the ways along the matrices of both, one after the other.
        chunks: numbers of matrices that are there at once, and their ways, if they are many.
    """

    def __init__(self, pieces: Sequence[Piece], run: Addresses, ends: Sequence[Addresses]) -> None:
        self._run, self._ends = run, ends
        self.lines = [0, 0]
        self._first: dict[Piece, tuple[int, int]] = {}
        bucket = None
        for piece in pieces:
            if piece.bucket is not bucket:
                begin = self.lines.copy()
                bucket = piece.bucket
                for side, lines in enumerate((bucket.outputs, bucket.inputs)):
                    heard = bool(bucket.members[0].ends[side])
                    self.lines[side] += heard * (lines.stop - lines.start)
            self._first[piece] = begin[0] - bucket.outputs.start, begin[1] - bucket.inputs.start
        self.tapped = [piece for piece in pieces if piece.bucket.shape[3] > 1]
        kept = [(piece, item) for piece in self.tapped for item in piece.items]
        chunks = _chunks(piece for piece in pieces if piece.bucket.shape[3] == 1)
        few = chunks.pop() if len(chunks) == 1 else []
        self.few = _items(few)
        self.kept = self._ways(kept + few)
        self.chunks = [(_items(chunk), self._ways(chunk)) for chunk in chunks]

    def _ways(self, chosen: Sequence[tuple[Piece, int]]) -> Ways:
        return self._way(chosen, 0), self._way(chosen, 1)

    def _way(self, chosen: Sequence[tuple[Piece, int]], side: int) -> Way:
        rows: list[tuple[int, ...]] = []
        for number, (piece, item) in enumerate(chosen):
            if piece.bucket.members[0].ends[side]:
                told, tell = piece.bucket.shape[1 + side], piece.bucket.shape[2 - side]
                # Rows of the matrices are outputs, or inputs if they are turned.
                steps = (tell, 1) if piece.plane.turned == bool(side) else (1, told)
                first, other = (int(self._ends[n][item]) for n in (side, 1 - side))
                own = int(self._run[item]), first + self._first[piece][side], other
                rows.append((number, *own, told, tell, *steps))
        table = np.array(rows, dtype=np.int64).reshape(-1, 8)
        matrix, run, to, tell = table[:, :4].T.copy()
        return Way(matrix, run, to, tell, table[:, 4:].copy())


def _chunks(pieces: Iterable[Piece]) -> list[list[tuple[Piece, int]]]:
    """Matrices of pieces that are there at once, each by its piece and its number."""
    found: list[list[tuple[Piece, int]]] = []
    room = 0
    for piece in pieces:
        for item in piece.items:
            if not found or room + piece.entries > CHUNK:
                found.append([])
                room = 0
            found[-1].append((piece, item))
            room += piece.entries
    return found


def _items(chosen: Sequence[tuple[Piece, int]]) -> Addresses:
    return np.array([item for _, item in chosen], dtype=np.int64)


class Along:
    """Carries messages along a group.

    Args:
        group: the group.
        kept: where each of the matrices that are kept begins, in bytes.
        memory: of these matrices.
        carried: makes a chunk; returns where matrices begin, and their memory.
    """

    def __init__(
        self,
        group: Group,
        kept: Addresses,
        memory: Sequence[Tensor],
        carried: Callable[[Addresses], tuple[Addresses, Tensor]],
    ) -> None:
        self._group, self._kept, self._memory, self._carried = group, kept, memory, carried

    def products(self, out: Tensor, into: Tensor) -> list[Tensor | None]:
        """See :meth:`.Carrying.products`."""
        states = [tensor.float().contiguous() for tensor in (into, out)]
        said = [
            own.new_empty(len(own), lines, CARRIED, own.shape[2]) if lines else None
            for own, lines in zip(states, self._group.lines, strict=True)
        ]
        _say(self._group.kept, self._kept, states, said)
        for items, ways in self._group.chunks:
            places, _memory = self._carried(items)
            _say(ways, places, states, said)
        return said


def _say(
    ways: Ways, places: Addresses, states: Sequence[Tensor], said: Sequence[Tensor | None]
) -> None:
    for way, own, found in zip(ways, states, said, strict=True):
        if found is not None and len(way.sizes):
            way.say(places, own, found)
