"""The tensors in what a model takes or returns."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def nested_tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value: in containers, data classes, and attributes of plain objects.

    A cache of keys and values that `transformers` returns for generation is left out: no loss is
    computed from it.
    """
    yield from _walk(value, set())


def _walk(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, int, float, type)):
        return
    seen.add(id(value))
    for item in _items(value):
        yield from _walk(item, seen)


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))
    elif not _is_cache(value):  # such as a torch.distributions.Normal
        yield from getattr(value, "__dict__", {}).values()


def _is_cache(value: Any) -> bool:
    return any(
        cls.__name__ == "Cache" and cls.__module__.startswith("transformers.")
        for cls in type(value).__mro__
    )
