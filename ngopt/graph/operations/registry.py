"""Registry of handlers: one per operation, which records what the operation does to axes.

A handler is called as `handler(recorder, out, *args, **kwargs)` with the result and the arguments
of the operation, and records the axes of the result with `recorder.put(out, axes)`. Handlers of
torch's own functions are found by the function's name, since one operation has many faces
(`torch.add`, `Tensor.add_`, `Tensor.__radd__`).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ngopt.graph.layout import Kind

Handler: TypeAlias = Callable[..., None]


@dataclass(frozen=True)
class Operation:
    """What is known about a function: the handler for its axes, and its kind of layer."""

    handler: Handler
    kind: Kind

    def accepts(self, *args: Any, **kwargs: Any) -> bool:
        """Whether the handler has an answer for a call with these arguments."""
        try:
            inspect.signature(self.handler).bind(*args, **kwargs)
        except TypeError:
            return False
        return True


_BY_NAME: dict[str, Operation] = {}
_BY_FUNCTION: dict[Callable[..., Any], Operation] = {}


def operation(*names: str, kind: Kind = "other") -> Callable[[Handler], Handler]:
    """Decorate the handler of torch's functions of the given names."""

    def register(handler: Handler) -> Handler:
        for name in names:
            if name in _BY_NAME:
                raise ValueError(f"operation `{name}` has a handler already")
            _BY_NAME[name] = Operation(handler, kind)
        return handler

    return register


def register_function(function: Callable[..., Any], handler: Handler, kind: Kind) -> None:
    """Register the handler of one function that is not torch's own, or that overrides torch's."""
    _BY_FUNCTION[function] = Operation(handler, kind)


def find(function: Callable[..., Any]) -> Operation | None:
    """Return what is known about a function, or None."""
    try:
        own = _BY_FUNCTION.get(function)
    except TypeError:  # unhashable
        own = None
    return own or (_BY_NAME.get(name_of(function)) if _is_torchs(function) else None)


def name_of(function: Callable[..., Any]) -> str:
    """Name of an operation: `add` for `torch.add`, `Tensor.add_`, `Tensor.__radd__` and so on."""
    name: str = getattr(function, "__name__", type(function).__name__)
    if name in ("__get__", "__set__", "__delete__"):
        owner = getattr(function, "__self__", None)
        return f"{getattr(owner, '__name__', 'property')}" if name == "__get__" else name
    if name == "__rand__":  # the reverse of `&`, not `torch.rand`
        return "and"
    if name.startswith("__") and name.endswith("__"):
        return name if name in ("__getitem__", "__setitem__") else name.strip("_")
    return name.rstrip("_").removeprefix("_").removeprefix("special_") or name


def _is_torchs(function: Callable[..., Any]) -> bool:
    module = getattr(function, "__module__", None)
    if module is None:  # methods of tensors and C functions
        owner = getattr(function, "__objclass__", None) or getattr(function, "__self__", None)
        owner = getattr(owner, "__objclass__", owner)
        module = getattr(owner, "__module__", None) or "torch"
    return str(module).split(".")[0] in ("torch", "builtins")
