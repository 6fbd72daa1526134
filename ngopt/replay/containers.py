"""Nested dictionaries, tuples and lists of tensors."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def leaves(tree: Any) -> Iterator[Tensor]:
    """Tensors of nested containers, in order.

    >>> import torch
    >>> [int(leaf) for leaf in leaves(({"a": torch.tensor(1)}, torch.tensor(2)))]
    [1, 2]
    """
    if isinstance(tree, Tensor):
        yield tree
    else:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)


def form(tree: Any) -> Any:
    """The same containers without tensors; hashable.

    >>> form({"a": (), "b": {"c": ()}})
    (('a', ()), ('b', (('c', ()),)))
    """
    if isinstance(tree, Tensor):
        return None
    if isinstance(tree, dict):
        return tuple((name, form(part)) for name, part in tree.items())
    return tuple(map(form, tree))


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
