"""Torch modes for tracing: they report every operation of a forward pass to the recorder."""

import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ngopt.graph.operations import registry
from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.recorder import TraceRecorder, version
from ngopt.graph.space import activation_of
from ngopt.graph.trace_record import Record

_READERS = """
item tolist numpy array bool int float index complex equal allclose is_nonzero data_ptr storage
untyped_storage dlpack contains
"""
_READS_VALUES = frozenset(_READERS.split())
_TURNS = ("t", "transpose", "swapaxes", "swapdims")  # in place, they write into the shape only
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}  # torch takes both
_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class TraceMode(TorchFunctionMode):
    """Torch-function mode that reports every operation to a recorder.

    An error in the recorder is kept in `failure` and ends recording; the operations themselves go
    on.
    """

    def __init__(self, recorder: TraceRecorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.failure: Exception | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and record what it did to axes."""
        kwargs = dict(kwargs or {})
        # Some operations compile themselves, as flex_attention.
        if self.failure is not None or torch.compiler.is_compiling():
            return func(*args, **kwargs)
        try:
            known, body, before = self._before(func, args, kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the operation goes on
            return self._fail(error, func, args, kwargs)
        if body is not None:  # written in terms of other operations: follow those
            with self:
                return body(*args, **kwargs)
        out = func(*args, **kwargs)
        try:
            self._after(registry.name_of(func), known, before, args, kwargs, out)
        except Exception as error:  # noqa: BLE001
            self.failure = error
        return out

    def _fail(
        self, error: Exception, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        self.failure = error
        return func(*args, **kwargs)

    def _before(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """The handler of an operation, or its body in Python, and the records of its arguments."""
        known = registry.find(func)
        body = None if known else _python_body(func)
        inputs = [] if body is not None else list(tensors(args, kwargs))
        before = [(t, self.recorder.record(t), version(t)) for t in inputs]
        return known, body, before

    def _after(
        self,
        name: str,
        known: registry.Operation | None,
        before: list[tuple[Tensor, Record, int | None]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
    ) -> None:
        inputs, origins = [t for t, _, _ in before], [origin for _, origin, _ in before]
        written = [(t, origin) for t, origin, then in before if version(t) != then]
        if any(True for _ in tensors(out)) or written or name == "__setitem__":
            self._observe(name, known, inputs, args, kwargs, out)
        elif name in _READS_VALUES:
            for tensor in inputs:
                self.recorder.pin(f"its values are read by {name}", *self.recorder.axes(tensor))
        self.recorder.derive(tensors(out), origins, known.kind if known else "other")
        activation = activation_of(name) if known else ""
        if activation and any(origin.live for origin in origins):
            self.recorder.activate(activation, tensors(out))
        if name not in _TURNS:
            for tensor, origin in written:
                self.recorder.wrote(tensor, origin.axes, origins)

    def _observe(
        self,
        name: str,
        known: registry.Operation | None,
        inputs: list[Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
    ) -> None:
        recorder, outputs = self.recorder, list(tensors(out))
        if not inputs and known is None:
            for tensor in outputs:
                recorder.add_constant(tensor, f"made by {name}")
            return
        kwargs = {_NUMPY_NAMES.get(key, key): value for key, value in kwargs.items()}
        kwargs.pop("out", None)
        if known is not None and known.accepts(recorder, out, *args, **kwargs):
            known.handler(recorder, out, *args, **kwargs)
        else:
            recorder.give_up(f"{name} at {_place()}", inputs)
            for tensor in outputs:
                new = f"comes from {name}, which has no handler"
                recorder.put(tensor, [recorder.fresh(n, new) for n in tensor.shape])


class KernelMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Torch-dispatch mode that shows kernels of scripted functions to :class:`TraceMode`.

    Scripted functions run kernels without calling a torch function. Here each kernel is called once
    more from Python, where :class:`TraceMode` sees it. Kernels inside a torch function are recorded
    with that function.
    """

    supports_higher_order_operators = True

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Tell the compiler, which some operations call by themselves, to carry on."""
        return True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip the compiler, torch would import it, which takes seconds

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a kernel."""
        return func(*args, **(kwargs or {}))


def _python_body(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """The body of a torch function that is written in Python, without its check for overrides."""
    if not isinstance(func, types.FunctionType):
        return None
    checks = [check for check in _CHECKS if check in func.__globals__]
    if not any(check in func.__code__.co_names for check in checks):
        return None
    scope = {**func.__globals__, **{check: _never for check in checks}}
    body = types.FunctionType(
        func.__code__, scope, func.__name__, func.__defaults__, func.__closure__
    )
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def _never(*_: Any) -> bool:
    return False


def _place() -> str:
    """File and line of the model's code that is running."""
    frame = sys._getframe()
    while frame.f_back is not None:
        package = frame.f_globals.get("__name__", "").split(".")[0]
        if package not in ("torch", "ngopt"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown place"
