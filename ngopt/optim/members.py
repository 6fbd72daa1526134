"""Names of the tensors in parameter groups, which frameworks edit without telling the optimizer."""

import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class Members:
    """Knows by what name each tensor of each group goes.

    Groups may be longer or shorter than they were, other tensors may stand in them, and whole
    groups may have come or gone. A tensor keeps its name as long as it is in any group or has a
    state; one that took the place of another takes its name, too.
    """

    def __init__(self) -> None:
        self._names: list[list[str]] = []
        self._tensors: list[list[Tensor]] = []
        self._former: dict[Tensor, str] = {}
        self._models: list[tuple[weakref.ref[nn.Module], str]] = []

    def __getstate__(self) -> dict[str, Any]:
        # Weak references cannot be copied, and the model should not be.
        return {**self.__dict__, "_models": []}

    def know(self, model: nn.Module, prefix: str) -> None:
        """Name tensors that come into a group after their model, if they are in one.

        Args:
            model: the model.
            prefix: of the names of its parameters.
        """
        self._models.append((weakref.ref(model), prefix))

    def add(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """Add a group that has just been added to the optimizer."""
        self._names.append(list(names))
        self._tensors.append(list(tensors))

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names, by their old ones."""
        self._names = [[names.get(name, name) for name in group] for group in self._names]

    def names(
        self, groups: Sequence[Mapping[str, Any]], stateful: Collection[Tensor]
    ) -> list[list[str]]:
        """Names of the tensors of each group as it is now.

        Args:
            groups: the parameter groups.
            stateful: tensors that have a state in the optimizer.
        """
        now = [group["params"] for group in groups]
        if not _same(now, self._tensors):
            self._name_anew([list(tensors) for tensors in now], stateful)
        return self._names

    def _name_anew(self, now: list[list[Tensor]], stateful: Collection[Tensor]) -> None:
        before = {**self._former, **dict(_pairs(self._tensors, self._names))}
        present = {tensor for group in now for tensor in group}
        known = {tensor: name for tensor, name in before.items() if tensor in present}
        used = set(known.values())
        for tensor, name in self._in_models():
            if tensor in present and tensor not in known and name not in used:
                known[tensor] = name
                used.add(name)
        for tensor, gone, name in self._replaced(now):
            if tensor not in known and gone not in present and name not in used:
                known[tensor] = name
                used.add(name)
        taken = used | set(before.values())
        found: list[list[str]] = []
        given: set[str] = set()
        for tensors in now:
            found.append([])
            for tensor in tensors:
                name = known.get(tensor, "")
                if not name or name in given:
                    name = _new(taken)
                    taken.add(name)
                given.add(name)
                found[-1].append(name)
        self._former = {t: n for t, n in before.items() if t in stateful and n not in given}
        self._names, self._tensors = found, now

    def _replaced(self, now: list[list[Tensor]]) -> Iterator[tuple[Tensor, Tensor, str]]:
        """What stands in the place of what, and its name, in groups as long as before."""
        for tensors, before, names in zip(now, self._tensors, self._names, strict=False):
            if len(tensors) == len(before):
                yield from zip(tensors, before, names, strict=True)

    def _in_models(self) -> Iterator[tuple[Tensor, str]]:
        for reference, prefix in self._models:
            model = reference()
            if model is not None:
                yield from ((tensor, prefix + name) for name, tensor in model.named_parameters())


def _same(now: Sequence[Sequence[Tensor]], before: Sequence[Sequence[Tensor]]) -> bool:
    return len(now) == len(before) and all(
        len(a) == len(b) and all(one is other for one, other in zip(a, b, strict=True))
        for a, b in zip(now, before, strict=True)
    )


def _pairs(
    tensors: Iterable[Iterable[Tensor]], names: Iterable[Iterable[str]]
) -> Iterable[tuple[Tensor, str]]:
    for group, own in zip(tensors, names, strict=True):
        yield from zip(group, own, strict=True)


def _new(taken: Collection[str]) -> str:
    number = len(taken)
    while f"tensor:{number}" in taken:
        number += 1
    return f"tensor:{number}"
