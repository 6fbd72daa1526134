"""Tracing: from one forward pass of a model to its neural graph."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrizations import _SpectralNorm

from ngopt.errors import TraceError
from ngopt.graph.assemble import assemble
from ngopt.graph.axes import name_axes
from ngopt.graph.bundle import Bundle
from ngopt.graph.nested_tensors import nested_tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Term
from ngopt.graph.trace_modes import KernelMode, TraceMode
from ngopt.graph.verify import verify as verify_graph


def trace(
    model: nn.Module,
    *args: Any,
    verify: bool = False,
    axes: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> NeuralGraph:
    """Find the neural graph of a model by following one forward pass.

    The model is left as it was: buffers, gradients, random state and modes do not change.

    Args:
        model: any module. Shared, frozen and functionally used parameters are all followed.
        *args: example inputs of the forward pass, as the model takes them.
        verify: whether to confirm each hidden space by permuting its neurons and comparing the
            model's outputs. A space that fails is pinned. Costs one forward pass per space.
        axes: names for the axes of parameters that tracing cannot tell, one word per axis, such as
            `{"mix.weight": "out in"}`. Equal words, also in other parameters, are the same neurons;
            `word!` stands for pinned neurons, `1` for an axis that does not run over neurons, and
            `_` for what tracing finds.
        **kwargs: more inputs of the forward pass.

    Returns:
        The graph. Operations that have no handler are listed in `graph.unknown`; what passes
        through them is pinned, which is safe.

    Raises:
        TraceError: if `model` is not a module, or `axes` does not fit its parameters.

    Example:
        >>> import torch, ngopt
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> graph = ngopt.trace(model, torch.randn(4, 3), verify=True)
        >>> [str(space) for space in graph.hidden]
        ['h0(8)']
    """
    tracing = Tracing(model, axes)
    tracing.begin(args, kwargs)
    # Without gradients, nothing but the kernels themselves tells of scripted functions.
    with undisturbed(model), torch.no_grad(), KernelMode(), tracing.modes():  # type: ignore[no-untyped-call]
        outputs = model(*args, **kwargs)
    graph = tracing.finish(outputs)
    if verify:
        with undisturbed(model):
            graph = verify_graph(graph, model, args, kwargs)
    return graph


class Tracing:
    """One forward pass being followed: `begin`, enter `modes()` around it, then `finish`."""

    def __init__(self, model: nn.Module, axes: Mapping[str, str] | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise TraceError(
                f"cannot trace {type(model).__name__}: only an nn.Module has parameters with names."
                "\n  Wrap the computation in a module, or hand its tensors to the optimizer."
            )
        lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
        if lazy:
            raise TraceError(
                f"cannot trace the model: `{lazy[0]}` has no shape yet.\n  Run one forward pass "
                "first, which gives lazy parameters their shapes."
            )
        self.recorder = TraceRecorder()
        self._mode = TraceMode(self.recorder)
        self._axes: dict[str, list[Term]] = {}
        self._aliases: dict[str, str] = {}
        self._buffers: set[str] = set()
        self._add_parameters(model)
        self._add_buffers(model)
        self._named = name_axes(self.recorder, self._axes, axes or {})

    def _add_parameters(self, model: nn.Module) -> None:
        known: dict[Any, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            identity = _identity(parameter)
            if identity not in known:
                known[identity] = name
                self._axes[name] = self.recorder.add_parameter(name, parameter)
            else:
                self._aliases[name] = known[identity]
                if not self.recorder.knows(parameter):  # another tensor on the same memory
                    self.recorder.put(parameter, self._axes[known[identity]])

    def _add_buffers(self, model: nn.Module) -> None:
        for prefix, module in model.named_modules():
            states = state_buffers(module)
            for name, buffer in module.named_buffers(prefix, recurse=False):
                if self.recorder.knows(buffer):
                    continue
                if name.rsplit(".", 1)[-1] in states:
                    self._axes[name] = self.recorder.add_parameter(name, buffer)
                    self._buffers.add(name)
                else:
                    self.recorder.add_constant(buffer, "a constant of the model")

    @contextmanager
    def modes(self) -> Iterator[None]:
        """Context in which operations are recorded; nothing in it is compiled."""
        compiler = "torch._dynamo" in sys.modules  # where it is not, nothing is compiled
        eager = torch.compiler.set_stance("force_eager") if compiler else nullcontext()
        with eager, self._mode:
            yield

    def begin(self, *inputs: Any) -> None:
        """Start to follow the inputs of the model."""
        for tensor in nested_tensors(inputs):
            self.recorder.add_input(tensor)

    def finish(self, outputs: Any) -> NeuralGraph:
        """Return the graph, given what the model returned; raise what failed in following it."""
        return self.finish_beside(outputs, (), ONE)[0]

    def finish_beside(
        self, outputs: Any, made: Sequence[Sequence[Term]], batch: Term
    ) -> tuple[NeuralGraph, list[tuple[Bundle, ...]]]:
        """Return the graph and what other tensors run over; see :func:`.assemble`."""
        if self._mode.failure is not None:
            raise self._mode.failure
        for tensor in nested_tensors(outputs):
            self.recorder.pin("output of the model", *self.recorder.axes(tensor))
        axes = {
            name: [own or found for own, found in zip(self._named[name], terms, strict=True)]
            if name in self._named
            else terms
            for name, terms in self._axes.items()
        }
        found = self.recorder, axes, self._buffers, self._aliases
        return assemble(*found, made, batch)


def state_buffers(module: nn.Module) -> tuple[str, ...]:
    """Names of the buffers of a module that follow its neurons, as the running means of a norm do.

    All other buffers are constants, such as masks and frequencies, and pin what they meet.
    """
    if isinstance(module, _NormBase):
        return ("running_mean", "running_var")
    if isinstance(module, _SpectralNorm):
        return ("_u", "_v")
    return ()


def _identity(parameter: Tensor) -> Any:
    if parameter.numel() == 0 or parameter.is_meta:
        return id(parameter)
    try:
        with torch._C.DisableTorchFunction():  # out of sight of a trace that is going on around
            return (
                parameter.data_ptr(),
                tuple(parameter.shape),
                parameter.stride(),
                parameter.device,
            )
    except RuntimeError:  # no storage of its own
        return id(parameter)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Give back buffers, modes and random state as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = [(module, module.training) for module in model.modules()]
    cuda = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(cuda):
            yield
    finally:
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.data.copy_(buffers[name])
        for module, training in modes:
            module.training = training
