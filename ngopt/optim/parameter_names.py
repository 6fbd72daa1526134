"""Names of the tensors in parameter groups, also after a framework has edited the groups."""

import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class ParameterNames:
    """Keeps the name of each tensor in the parameter groups.

    Frameworks edit `param_groups` without telling the optimizer: tensors and whole groups are
    added, removed or replaced. A tensor keeps its name as long as it is in any group or has a
    state. A tensor that replaces another one takes over its name.
    """

    def __init__(self) -> None:
        self._names: list[list[str]] = []
        self._tensors: list[list[Tensor]] = []
        self._former: dict[Tensor, str] = {}
        self._models: list[tuple[weakref.ref[nn.Module], str]] = []

    def __getstate__(self) -> dict[str, Any]:
        # Weak references cannot be copied, and the model should not be.
        return {**self.__dict__, "_models": []}

    def add_model(self, model: nn.Module, prefix: str) -> None:
        """Use the names in a model for its tensors that are added to a group later.

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
        self, groups: Sequence[Mapping[str, Any]], with_state: Collection[Tensor]
    ) -> list[list[str]]:
        """Names of the tensors of each group as it is now.

        Args:
            groups: the parameter groups.
            with_state: tensors that have a state in the optimizer.
        """
        now = [group["params"] for group in groups]
        if not _same(now, self._tensors):
            self._assign_names([list(tensors) for tensors in now], with_state)
        return self._names

    def _assign_names(self, now: list[list[Tensor]], with_state: Collection[Tensor]) -> None:
        before = {**self._former, **dict(_tensor_name_pairs(self._tensors, self._names))}
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
        in_use = used | set(before.values())
        found: list[list[str]] = []
        given: set[str] = set()
        for tensors in now:
            found.append([])
            for tensor in tensors:
                name = known.get(tensor, "")
                if not name or name in given:
                    name = _unused_name(in_use)
                    in_use.add(name)
                given.add(name)
                found[-1].append(name)
        self._former = {t: n for t, n in before.items() if t in with_state and n not in given}
        self._names, self._tensors = found, now

    def _replaced(self, now: list[list[Tensor]]) -> Iterator[tuple[Tensor, Tensor, str]]:
        """New tensor, old tensor and its name, for each place of the groups of unchanged length."""
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


def _tensor_name_pairs(
    tensors: Iterable[Iterable[Tensor]], names: Iterable[Iterable[str]]
) -> Iterable[tuple[Tensor, str]]:
    for group, own in zip(tensors, names, strict=True):
        yield from zip(group, own, strict=True)


def _unused_name(in_use: Collection[str]) -> str:
    number = len(in_use)
    while f"tensor:{number}" in in_use:
        number += 1
    return f"tensor:{number}"
