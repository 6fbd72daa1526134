"""Normalisation layers."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder


@operation("batch_norm", "native_batch_norm", kind="normalization")
def batch_norm(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    """Each channel (dim 1) by itself; scale, shift and running statistics are per channel."""
    axes = recorder.axes(input)
    recorder.mix(input, [d for d in range(input.dim()) if d != 1])
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is not None:
            recorder.unify(axes[1], recorder.axes(tensor)[0])
    recorder.put(out, axes)


@operation("instance_norm", kind="normalization")
def instance_norm(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Each channel of each sample by itself."""
    tensors = {k: v for k, v in kwargs.items() if isinstance(v, Tensor)}
    batch_norm(recorder, out, input, *args[:4], **tensors)


@operation("layer_norm", "rms_norm", kind="normalization")
def layer_norm(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    """The last dims together; scale and shift have these dims."""
    axes = recorder.axes(input)
    count = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    recorder.mix(input, range(-count, 0))
    for tensor in (weight, bias):
        if tensor is not None:
            for axis, scale in zip(axes[-count:], recorder.axes(tensor), strict=True):
                recorder.unify(axis, scale)
    recorder.put(out, axes)


@operation("group_norm", kind="normalization")
def group_norm(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    """Channels `(group channel)`: the channels of a group together."""
    axes = recorder.axes(input)
    channel = recorder.factor(axes[1], [num_groups, -1])[1]
    recorder.solver.mix([*axes, channel], [*range(2, len(axes)), len(axes)])
    for tensor in (weight, bias):
        if tensor is not None:
            recorder.unify(axes[1], recorder.axes(tensor)[0])
    recorder.put(out, axes)


@operation("normalize", kind="normalization")
def normalize(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    p: float = 2.0,
    dim: int | tuple[int, ...] = 1,
    *_: Any,
    **__: Any,
) -> None:
    """Divided by the norm along dims."""
    axes = recorder.axes(input)
    recorder.mix(input, [dim] if isinstance(dim, int) else dim)
    recorder.put(out, axes)


@operation("renorm", kind="normalization")
def renorm(
    recorder: TraceRecorder, out: Tensor, input: Tensor, p: float, dim: int, maxnorm: float
) -> None:
    """Each index of a dim by itself is scaled down to a norm."""
    recorder.mix(input, [d for d in range(input.dim()) if d != dim % input.dim()])
    recorder.put(out, recorder.axes(input))


@operation("weight_norm", "weight_norm_interface", kind="normalization")
def weight_norm(recorder: TraceRecorder, out: Any, v: Tensor, g: Tensor, dim: int = 0) -> None:
    """Direction `v` and length `g` along a dim."""
    result = out[0] if isinstance(out, tuple) else out
    recorder.put(result, recorder.broadcast(v.shape, v, g))
    if isinstance(out, tuple):
        recorder.put(out[1], recorder.axes(g))


@operation("local_response_norm", "lrn", kind="normalization")
def local_response_norm(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *_: Any, **__: Any
) -> None:
    """Neighbouring channels together, so that their order matters."""
    axes = recorder.axes(input)
    recorder.pin("neighbouring channels are normalised together", axes[1])
    recorder.mix(input, [1])
    recorder.put(out, axes)
