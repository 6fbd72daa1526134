"""Tracing during the first forward pass of a model, without an example input or an extra call."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.recorder import UNSEEN
from ngopt.graph.trace import Tracing, trace


class FirstForward:
    """Follows the next forward pass of a model, hands over its graph and leaves no hook behind.

    If compiled code runs in it, as in `torch.compile(model)(x)`, there is nothing to follow; the
    model is then run once more, uncompiled and left as it was.

    Args:
        model: the model.
        receive: called once, with the graph, at the end of the forward pass.
    """

    def __init__(self, model: nn.Module, receive: Callable[[NeuralGraph], None]) -> None:
        self._receive = receive
        self._tracing: Tracing | None = None
        self._inputs: tuple[Any, Any] = ((), {})
        self._depth = 0  # of calls of the model by itself, as recursive networks do
        self._entered = ExitStack()
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            # The last to begin is the first to end: what both set meanwhile is set back in order.
            model.register_forward_hook(self._end, always_call=True, prepend=True),
        ]

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _begin(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        self._depth += 1
        lazy = any(is_lazy(parameter) for parameter in model.parameters())  # shaped in this forward
        if self._depth == 1 and not lazy:
            self._tracing, self._inputs = Tracing(model), (args, kwargs)
            self._tracing.begin(args, kwargs)
            self._entered.enter_context(self._tracing.following())

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
        graph = tracing.finish(outputs)
        if UNSEEN in graph.unknown and "torch._dynamo" in sys.modules:
            graph = trace(model, *args, **kwargs)
        self._receive(graph)

    def remove(self) -> None:
        """Stop waiting for a forward pass."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def trace_first_forward(model: nn.Module, receive: Callable[[NeuralGraph], None]) -> FirstForward:
    """Trace the next forward pass of a model; see :class:`FirstForward`."""
    return FirstForward(model, receive)
