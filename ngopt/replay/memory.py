"""Where in one block of memory each storage that comes and goes stands."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ALIGNMENT = 64
"""Of every storage, in bytes: a line of the cache."""


class Life(NamedTuple):
    """When a storage is needed, in numbers of instructions.

    Args:
        size: in bytes.
        first: that touches it.
        last: that touches it.
    """

    size: int
    first: int
    last: int


def placed(lives: Mapping[int, Life]) -> tuple[dict[int, int], int]:
    """Find a place for each storage: the lowest that nothing else needs in its time.

    Args:
        lives: by number of the storage.

    Returns:
        Offsets in bytes, and the size of the whole block.

    >>> placed({0: Life(64, 0, 1), 1: Life(64, 1, 2), 2: Life(64, 2, 3)})
    ({0: 0, 1: 64, 2: 0}, 128)
    """
    offsets: dict[int, int] = {}
    total = 0
    alive: list[tuple[int, int, int]] = []  # offset, end, last
    for number in sorted(lives, key=lambda n: (lives[n].first, -lives[n].size)):
        size, first, last = lives[number]
        size = -(-size // ALIGNMENT) * ALIGNMENT
        alive = [entry for entry in alive if entry[2] >= first]
        at = _gap(alive, size)
        offsets[number] = at
        total = max(total, at + size)
        alive.append((at, at + size, last))
        alive.sort()
    return offsets, total


def _gap(alive: Sequence[tuple[int, int, int]], size: int) -> int:
    at = 0
    for start, end, _ in alive:
        if start - at >= size:
            break
        at = max(at, end)
    return at
