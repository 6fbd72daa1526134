"""Tracing during the first forward pass of a model, without an example input or an extra call."""

import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.recorder import UNSEEN
from ngopt.graph.trace import Tracing, trace

NOTHING = NeuralGraph({}, {}, {}, verified=True)
"""Graph of a model that could not be followed."""


class FirstForward:
    """Follows the next forward pass of a model, hands over its graph and leaves no hook behind.

    If compiled code runs in it, as in `torch.compile(model)(x)`, there is nothing to follow; the
    model is then run once more, uncompiled and left as it was. A pass in which others follow the
    model (`torch.jit.trace`, `torch.export`) is left to them. Whatever fails in following, the
    forward pass goes on; a warning says so, and a graph of nothing is handed over.

    Args:
        model: the model.
        receive: called once, with the graph, at the end of the forward pass.
    """

    def __init__(self, model: nn.Module, receive: Callable[[NeuralGraph], None]) -> None:
        self._model = model
        self._receive = receive
        self._tracing: Tracing | None = None
        self._inputs: tuple[Any, Any] = ((), {})
        self._depth = 0  # of calls of the model by itself, as recursive networks do
        self._entered = ExitStack()
        self._handles: list[RemovableHandle] = []
        self._wait()

    def _wait(self) -> None:
        self._handles = [
            self._model.register_forward_pre_hook(self._begin, with_kwargs=True),
            # The last to begin is the first to end: what both set meanwhile is set back in order.
            self._model.register_forward_hook(self._end, always_call=True, prepend=True),
        ]
        Scriptable.of(self._model).waiting.append(self)

    def step_aside(self) -> None:
        """Leave no hook on the model until any module is called."""
        self.remove()
        handles: list[RemovableHandle] = []

        def come_back(module: nn.Module, args: Any) -> None:
            for handle in handles:
                handle.remove()
            self._wait()
            if module is self._model:
                self._begin(module, args, {})

        handles.append(register_module_forward_pre_hook(come_back))

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _begin(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        self._depth += 1
        lazy = any(is_lazy(parameter) for parameter in model.parameters())  # shaped in this forward
        if self._depth > 1 or lazy or _followed_by_others():
            return
        try:
            self._tracing, self._inputs = Tracing(model), (args, kwargs)
            self._tracing.begin(args, kwargs)
            self._entered.enter_context(self._tracing.modes())
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._give_up(error)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _end(self, model: nn.Module, args: Any, outputs: Any) -> None:
        self._depth = max(self._depth - 1, 0)  # where another hook failed, there was no beginning
        if self._depth:
            return
        tracing, self._tracing = self._tracing, None
        (args, kwargs), self._inputs = self._inputs, ((), {})
        if tracing is None:
            return
        self._entered.close()
        if outputs is None:  # the forward pass failed: follow the next one
            return
        self.remove()
        try:
            graph = tracing.finish(outputs)
            if UNSEEN in graph.unknown and "torch._dynamo" in sys.modules:
                graph = trace(model, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._give_up(error)
        else:
            self._receive(graph)

    def _give_up(self, error: Exception) -> None:
        self._tracing, self._inputs = None, ((), {})
        self._entered.close()
        self.remove()
        warnings.warn(
            "the forward pass of the model could not be followed, so each tensor is seen by itself "
            f"({type(error).__name__}: {error}). Training goes on; please report it, with what "
            "ngopt.trace(model, *inputs) says.",
            stacklevel=4,
        )
        self._receive(NOTHING)

    def remove(self) -> None:
        """Stop waiting for a forward pass."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        Scriptable.of(self._model).forget(self)


class Scriptable:
    """What `torch.jit.script` asks a waiting model for: itself, without hooks to be compiled.

    Args:
        model: the model.
    """

    NAME = "__prepare_scriptable__"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.waiting: list[FirstForward] = []

    @classmethod
    def of(cls, model: nn.Module) -> "Scriptable":
        """What is there for a model, or comes there now."""
        found: Scriptable = model.__dict__.setdefault(cls.NAME, cls(model))
        return found

    def forget(self, one: FirstForward) -> None:
        """Take one that does not wait any more off the list."""
        self.waiting = [other for other in self.waiting if other is not one]
        if not self.waiting:
            self._model.__dict__.pop(self.NAME, None)

    def __call__(self) -> nn.Module:
        """Let those that wait step aside."""
        for one in self.waiting:
            one.step_aside()
        own = getattr(type(self._model), self.NAME, None)
        prepared: nn.Module = self._model if own is None else own(self._model)
        return prepared


def _followed_by_others() -> bool:
    """Whether this pass is recorded as TorchScript or exported, which must not see two passes."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()


def trace_first_forward(model: nn.Module, receive: Callable[[NeuralGraph], None]) -> FirstForward:
    """Trace the next forward pass of a model; see :class:`FirstForward`."""
    return FirstForward(model, receive)
