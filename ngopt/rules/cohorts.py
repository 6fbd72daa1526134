"""Tensors that have always had gradients together, such as those of one expert of a mixture."""

from collections.abc import Hashable, Iterable
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


class Cohorts:
    """Sorts names into the fewest groups of which each has come as a whole, or not at all.

    Groups are only ever split, so whatever is kept for each of them is made anew at most as often
    as there are names, however many combinations of them come.

    >>> cohorts = Cohorts()
    >>> cohorts.of("abcd")
    [('a', 'b', 'c', 'd')]
    >>> cohorts.of("ab"), cohorts.of("bcd")
    ([('a', 'b')], [('b',), ('c', 'd')])
    >>> cohorts.of("abcd")
    [('a',), ('b',), ('c', 'd')]
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._sizes: list[int] = []

    def of(self, names: Iterable[Name]) -> list[tuple[Name, ...]]:
        """Split the groups where needed, and return those that make up the names.

        Args:
            names: what comes together this time.
        """
        found: dict[int | None, list[Name]] = {}
        for name in names:
            found.setdefault(self._numbers.get(name), []).append(name)
        for number, members in found.items():
            if number is None or len(members) < self._sizes[number]:
                if number is not None:
                    self._sizes[number] -= len(members)
                self._numbers.update(dict.fromkeys(members, len(self._sizes)))
                self._sizes.append(len(members))
        return [tuple(members) for members in found.values()]
