"""Deferred tracing: the graph is traced during the model's first forward pass."""

import warnings
import weakref
from typing import Protocol

from torch import nn

from ngopt.graph.first_forward import trace_first_forward
from ngopt.graph.neural_graph import NeuralGraph


class Receiver(Protocol):
    """Takes the graph of a model once it is traced."""

    def receive(self, graph: NeuralGraph, prefix: str) -> None:
        """Take the graph of a model; `prefix` comes before the names of its parameters."""


class Delivery:
    """Hands the graph to an optimizer, if that still exists.

    A model that waits for its first forward pass holds this object, which must neither keep the
    optimizer alive nor be copied or pickled together with it.

    Args:
        receiver: the optimizer.
        prefix: of the names of the model's parameters in the optimizer.
    """

    def __init__(self, receiver: Receiver | None, prefix: str) -> None:
        self._receiver = None if receiver is None else weakref.ref(receiver)
        self._prefix = prefix

    def __call__(self, graph: NeuralGraph) -> None:
        """Deliver the graph."""
        receiver = None if self._receiver is None else self._receiver()
        if receiver is not None:
            receiver.receive(graph, self._prefix)

    def __reduce__(self) -> tuple[type["Delivery"], tuple[None, str]]:
        return Delivery, (None, self._prefix)


def await_first_forward(model: nn.Module, receiver: Receiver, prefix: str) -> None:
    """Have the model's next forward pass traced and its graph delivered.

    Args:
        model: the model.
        receiver: gets the graph.
        prefix: handed on to the receiver.
    """
    trace_first_forward(model, Delivery(receiver, prefix))


def warn_untraced(stacklevel: int) -> None:
    """Warn of a step before the first forward pass; `stacklevel` as of `warnings.warn`."""
    warnings.warn(
        "a step comes before the first forward pass of the model, so the graph of the network is "
        "not known; until then each tensor is treated by itself. If the model is never called as "
        "model(...), give NeuralGraphOptimizer a graph=ngopt.trace(model, *inputs).",
        stacklevel=stacklevel,
    )
