"""Nested dictionaries, tuples and lists of tensors."""

from collections.abc import Hashable, Iterator
from typing import Any

from torch import Tensor


def flat(tree: Any) -> tuple[list[Tensor], tuple[Hashable, ...]]:
    """Take nested containers apart.

    Returns:
        The tensors in order, and what tells containers apart: the names that dictionaries have for
        their parts, a 0 for each tensor, and a None where each container ends.

    >>> import torch
    >>> tensors, form = flat(({"a": torch.tensor(1)}, torch.tensor(2)))
    >>> [int(tensor) for tensor in tensors], form
    ([1, 2], ('a', 0, None, 0, None))
    """
    tensors: list[Tensor] = []
    form: list[Hashable] = []
    _take(tree, tensors, form)
    return tensors, tuple(form)


def _take(tree: Any, tensors: list[Tensor], form: list[Hashable]) -> None:
    if isinstance(tree, Tensor):
        tensors.append(tree)
        form.append(0)
        return
    if isinstance(tree, dict):
        for name, part in tree.items():
            form.append(name)
            _take(part, tensors, form)
    else:
        for part in tree:
            _take(part, tensors, form)
    form.append(None)


def like(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """The same containers with other tensors, in order.

    >>> import torch
    >>> like(({"a": torch.tensor(1)}, torch.tensor(2)), iter(torch.tensor([3, 4])))
    ({'a': tensor(3)}, tensor(4))
    """
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, dict):
        return {name: like(part, tensors) for name, part in tree.items()}
    return tuple(like(part, tensors) for part in tree)
