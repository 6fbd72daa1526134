"""Computations alike, done together: one operation for many small tensors."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Name = TypeVar("Name")

SMALL = 2**10
"""Number of entries of a tensor up to which it is joined with others on the CPU, where larger ones
have compiled loops of their own."""

SMALL_ON_DEVICE = 2**20
"""The same on other devices, where an operation on fewer entries takes no less time."""

TOGETHER = 2**24
"""Number of entries that are joined at most, for they are copied."""


def each(function: Callable[..., Any], runs: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return `function(*run)` for each of several runs, computed together.

    Args:
        function: a pure function of nested containers of tensors, which returns such. What it does
            follows from their names, shapes, strides and dtypes alone.
        runs: the arguments for each result; of the same names, shapes, strides and dtypes.
    """
    if len(runs) == 1:
        return [function(*runs[0])]
    flat = [tree_flatten(run) for run in runs]
    form = flat[0][1]
    if any(other != form for _, other in flat):
        raise ValueError("runs whose arguments have other names, or names in another order")
    columns = zip(*(tensors for tensors, _ in flat), strict=True)

    def one(*tensors: Tensor) -> Any:
        return function(*tree_unflatten(tensors, form))

    returned = torch.func.vmap(one)(*(torch.stack(column) for column in columns))
    leaves, form_returned = tree_flatten(returned)
    # Each in memory of its own, so that none keeps those of the others.
    parts = [[part.clone() for part in leaf.unbind()] for leaf in leaves]
    return [tree_unflatten(list(run), form_returned) for run in zip(*parts, strict=True)]


def groups(items: Iterable[tuple[Name, Sequence[Tensor], Hashable]]) -> list[list[Name]]:
    """Sort out what is to be computed together: what looks alike, and is small.

    Args:
        items: of each computation a name, the tensors that it takes, the largest one first, and
            whatever else has to be equal.

    Returns:
        The names in groups, by the order of their first members.
    """
    found: dict[Hashable, list[Name]] = {}
    full: dict[Hashable, int] = {}
    for number, (name, tensors, other) in enumerate(items):
        if not _joined(tensors):
            found[number] = [name]
            continue
        key = (*((t.shape, t.dtype, t.device) for t in tensors), other)
        place = key, full.get(key, 0)
        found.setdefault(place, []).append(name)
        if len(found[place]) >= max(1, TOGETHER // tensors[0].numel()):
            full[key] = full.get(key, 0) + 1
    return list(found.values())


def _joined(tensors: Sequence[Tensor]) -> bool:
    # Derivatives and compiled code are better off with single tensors.
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    limit = SMALL if tensors[0].device.type == "cpu" else SMALL_ON_DEVICE
    return 0 < tensors[0].numel() <= limit and all(t.is_contiguous() for t in tensors)
