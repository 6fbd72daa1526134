"""Convolutions and what goes with them: pooling and resampling."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import Handler, operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import Term

_NEIGHBOURS = "its neighbours matter"


@operation("conv1d", "conv2d", "conv3d", kind="convolution")
def conv(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    """Weight `(group out) in *taps`, input `... (group in) *positions`."""
    group, into = _channels(recorder, input, weight, groups)
    out_axis, in_axis, *taps = recorder.axes(weight)
    if groups > 1:
        recorder.unify(group, recorder.factor(out_axis, [groups, -1])[0])
    recorder.unify(into, in_axis)
    _finish(recorder, out, input, weight, bias, out_axis, taps, (into, group))


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", kind="convolution")
def conv_transpose(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> None:
    """Weight `(group in) out *taps`, input `... (group in) *positions`."""
    group, into = _channels(recorder, input, weight, groups)
    in_axis, out_axis, *taps = recorder.axes(weight)
    recorder.unify(recorder.product(group, into), in_axis)
    if groups > 1:
        out_axis = recorder.product(group, out_axis)
    _finish(recorder, out, input, weight, bias, out_axis, taps, (into, group))


def _channels(recorder: TraceRecorder, input: Tensor, weight: Tensor, groups: int) -> list[Term]:
    channels = recorder.axes(input)[1 - weight.dim()]
    return recorder.factor(channels, [groups, -1])


def _finish(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    channels: Term,
    taps: list[Term],
    ends: tuple[Term, Term],
) -> None:
    into, group = ends
    for axis in taps:
        recorder.make_free(axis)
    if recorder.record(input).live:
        recorder.use(weight, [into], [group])
    if bias is not None:
        recorder.unify(channels, recorder.axes(bias)[0])
    count = len(taps)
    axes = recorder.axes(input)
    recorder.pin(_NEIGHBOURS, *axes[-count:])
    recorder.put(
        out, [*axes[: -count - 1], channels, *(recorder.free(n) for n in out.shape[-count:])]
    )


_POOLS = "avg_pool max_pool lp_pool adaptive_avg_pool adaptive_max_pool max_unpool"


def _pool(count: int) -> Handler:
    def pool(recorder: TraceRecorder, out: Any, input: Tensor, *args: Any, **kwargs: Any) -> None:
        for part in out if isinstance(out, tuple) else (out,):
            _resample(recorder, part, input, count)

    return pool


for _count in (1, 2, 3):
    for _name in _POOLS.split():
        operation(f"{_name}{_count}d", f"{_name}{_count}d_with_indices")(_pool(_count))


@operation("interpolate", "upsample", "grid_sample")
def resample(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Positions are resampled; batch and channels stay."""
    _resample(recorder, out, input, input.dim() - 2)


def _resample(recorder: TraceRecorder, out: Tensor, input: Tensor, count: int) -> None:
    axes = recorder.axes(input)
    recorder.pin(_NEIGHBOURS, *axes[-count:])
    recorder.put(out, [*axes[:-count], *(recorder.free(n) for n in out.shape[-count:])])
