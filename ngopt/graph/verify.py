"""Verification: permuting hidden neurons must leave the model's output unchanged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from ngopt.errors import TraceError
from ngopt.graph.nested_tensors import nested_tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.permute import Permutations, permute, random_permutations

# Some layers compute in single precision whatever they are given.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}


def verify(
    graph: NeuralGraph, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> NeuralGraph:
    """Confirm each hidden space by permuting its neurons in all tensors that share it.

    The outputs are compared at a random point near the model's weights, since at an initial point
    (zero biases, unit scales) wrong permutations may change nothing. The model runs in evaluation
    mode, without dropout, and in double precision where it can.

    Args:
        graph: the graph to confirm.
        model: the model it describes. Its modes are changed; the caller restores them.
        args: inputs of the forward pass.
        kwargs: more inputs.

    Returns:
        The graph with `verified` set; spaces that failed are pinned.

    Raises:
        TraceError: if the model has no weights yet, or no finite output, so that nothing can be
            compared.
    """
    model.eval()
    probe = _Probe(graph, model, args, kwargs)
    spaces = {
        name: space
        if space.pinned or probe.is_symmetry(_moving(graph, name))
        else replace(space, pinned=True, reason="permuting it changes the output")
        for name, space in graph.spaces.items()
    }
    return replace(graph, spaces=spaces, verified=True)


def _moving(graph: NeuralGraph, space: str) -> Permutations:
    """A random permutation of one space that is not the identity."""
    for seed in count():
        permutations = random_permutations(graph, seed, [space])
        index = permutations[space]
        if not torch.equal(index, torch.arange(index.shape[-1]).expand_as(index)):
            return permutations
    raise AssertionError


class _Probe:
    """Runs the model at a random point near its weights."""

    def __init__(
        self,
        graph: NeuralGraph,
        model: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        self._graph, self._model = graph, model
        state = dict(model.named_parameters(remove_duplicate=True)) | dict(model.named_buffers())
        self._buffers = {name for name, _ in model.named_buffers()}
        if any(tensor.is_meta for tensor in state.values()):
            raise TraceError(
                "cannot verify the graph: the model is on the meta device, without values.\n"
                "  Trace without verify=True, or after its weights have been made."
            )
        generator = torch.Generator().manual_seed(0)
        near = {name: self._near(name, tensor, generator) for name, tensor in state.items()}
        try:
            self._set(near, args, kwargs, torch.float64)
        except RuntimeError:  # something in the model insists on single precision
            self._set(near, args, kwargs, torch.float32)
        if not all(bool(out.isfinite().all()) for out in self._expected):
            raise TraceError(
                "cannot verify the graph: the output of the model is not finite.\n  Trace with "
                "inputs and weights that give finite outputs, or without verify=True."
            )
        if graph.hidden and not any(out.numel() for out in self._expected):
            raise TraceError(
                "cannot verify the graph: the model returns no number that could be compared.\n"
                "  Trace with inputs that give such outputs, or without verify=True."
            )

    def _near(self, name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
        tensor = tensor.detach()
        if not _is_inexact(tensor) or name not in self._graph.layouts:
            return tensor
        dtype = torch.complex128 if tensor.is_complex() else torch.float64
        scale = float(tensor.abs().double().square().mean().sqrt()) if tensor.numel() else 0.0
        noise = torch.randn(tensor.shape, generator=generator, dtype=dtype)
        if self._graph.layouts[name].buffer:  # running variances stay positive
            noise = noise.abs()
        return tensor.to(dtype) + noise.to(tensor.device) * (0.3 * scale or 0.1)

    def _set(
        self,
        state: Mapping[str, Tensor],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        dtype: torch.dtype,
    ) -> None:
        def cast(value: Any) -> Any:
            if not isinstance(value, Tensor) or not _is_inexact(value):
                return value
            return value.detach().to(dtype.to_complex() if value.is_complex() else dtype)

        self._dtype = dtype
        self._state = {name: cast(tensor) for name, tensor in state.items()}
        self._args, self._kwargs = tree_map(cast, tuple(args)), tree_map(cast, dict(kwargs))
        self._expected = list(self._outputs({}))

    def _outputs(self, permutations: Permutations) -> Iterator[Tensor]:
        touched = {
            name: tensor
            for name, tensor in self._state.items()
            if name in self._graph.layouts and self._touches(name, permutations)
        }
        # The model may write into its buffers and inputs, which must not reach the next run.
        buffers = {name: self._state[name].clone() for name in self._buffers}
        args, kwargs = tree_map(_clone, (self._args, self._kwargs))
        state = self._state | buffers | permute(self._graph, touched, permutations)
        torch.manual_seed(0)
        with torch.no_grad():
            outputs = functional_call(self._model, state, args, kwargs)
        for out in nested_tensors(outputs):
            if _is_inexact(out):
                yield (torch.view_as_real(out.resolve_conj()) if out.is_complex() else out).double()

    def _touches(self, name: str, permutations: Permutations) -> bool:
        bundles = self._graph.layouts[name].bundles
        return any(factor in permutations for bundle in bundles for factor in bundle.factors)

    def is_symmetry(self, permutations: Permutations) -> bool:
        """Whether the output stays the same when neurons are permuted."""
        for expected, out in zip(self._expected, self._outputs(permutations), strict=True):
            if not expected.numel():
                continue
            scale = float(expected.abs().max())
            error = float((out - expected).abs().max())
            if not error <= _TOLERANCE[self._dtype] * scale:  # an error that is NaN is one, too
                return False
        return True


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
