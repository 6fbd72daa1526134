"""Operations that move entries without changing them: views, permutations of dims, repetition."""

from typing import Any

import torch
from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Term, size


@operation("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel")
def reshape(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Axes are merged into products and products are split into axes."""
    if out.dtype != input.dtype:  # view(dtype): entries may be cut into pieces
        if out.shape != input.shape:
            recorder.pin("its entries are cut into pieces", recorder.axes(input)[-1])
        return recorder.put(out, recorder.axes(input))
    return recorder.put(out, regroup(recorder, recorder.axes(input), tuple(out.shape)))


def regroup(recorder: TraceRecorder, axes: list[Term], shape: tuple[int, ...]) -> list[Term]:
    """Axes after a view: neighbours whose sizes have the same product belong together."""
    if 0 in shape:
        recorder.pin("it is empty", *axes)
        return [recorder.fresh(n, "it is empty") for n in shape]
    result: list[Term] = []
    before, after = list(axes), list(shape)
    while before or after:
        old: list[Term] = [before.pop(0)] if before else [ONE]
        new = [after.pop(0)] if after else [1]
        while (a := torch.Size(map(size, old)).numel()) != (b := torch.Size(new).numel()):
            if a < b:
                old.append(before.pop(0))
            else:
                new.append(after.pop(0))
        result += recorder.factor(recorder.product(*old), new)
    return result[: len(shape)]


@operation("transpose", "swapaxes", "swapdims")
def transpose(recorder: TraceRecorder, out: Tensor, input: Tensor, dim0: int, dim1: int) -> None:
    """Two dims change places."""
    axes = list(recorder.axes(input))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    recorder.put(out, axes)


@operation("t", "T", "mT", "H", "mH", "adjoint")
def last_two(recorder: TraceRecorder, out: Tensor, input: Tensor) -> None:
    """The last two dims change places (all dims are reversed by `T` of more than two)."""
    axes = list(recorder.axes(input))
    recorder.put(out, axes if len(axes) < 2 else [*axes[:-2], axes[-1], axes[-2]])


@operation("permute")
def permute(recorder: TraceRecorder, out: Tensor, input: Tensor, *dims: Any, **kwargs: Any) -> None:
    """Dims in a new order."""
    order = kwargs.get("dims", dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)
    axes = recorder.axes(input)
    recorder.put(out, [axes[d] for d in order])


@operation("movedim", "moveaxis")
def movedim(
    recorder: TraceRecorder, out: Tensor, input: Tensor, source: Any, destination: Any
) -> None:
    """Dims moved to new places, the others in order."""
    n = input.dim()
    sources = [s % n for s in ([source] if isinstance(source, int) else source)]
    places = [d % n for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter([d for d in range(n) if d not in sources])
    moved = dict(zip(places, sources, strict=True))
    axes = recorder.axes(input)
    recorder.put(out, [axes[moved[d] if d in moved else next(rest)] for d in range(n)])


@operation("squeeze")
def squeeze(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Dims of size 1 go."""
    axes = [axis for axis in recorder.axes(input) if size(axis) != 1]
    _with_ones(recorder, out, axes)


@operation("unsqueeze", "atleast_1d", "atleast_2d", "atleast_3d")
def unsqueeze(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """A dim of size 1 comes."""
    _with_ones(recorder, out, [axis for axis in recorder.axes(input) if size(axis) != 1])


def _with_ones(recorder: TraceRecorder, out: Tensor, axes: list[Term]) -> None:
    rest = iter(axes)
    recorder.put(out, [ONE if n == 1 else next(rest) for n in out.shape])


@operation("expand", "expand_as", "broadcast_to")
def expand(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Dims of size 1 are repeated; along them all entries are equal."""
    axes = recorder.axes(input)
    axes = [ONE] * (out.dim() - len(axes)) + list(axes)
    recorder.put(
        out,
        [a if size(a) == n else recorder.fresh(n) for a, n in zip(axes, out.shape, strict=True)],
        uniform=recorder.is_uniform(input),
    )


@operation("repeat", "tile")
def repeat(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Each dim is repeated as a whole: `(copies axis)`."""
    axes = recorder.axes(input)
    axes = [ONE] * (out.dim() - len(axes)) + list(axes)
    result = [
        recorder.product(recorder.fresh(n // max(size(axis), 1)), axis)
        for axis, n in zip(axes, out.shape, strict=True)
    ]
    recorder.put(out, result)


@operation("repeat_interleave")
def repeat_interleave(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    repeats: Any = 1,
    dim: int | None = None,
    **_: Any,
) -> None:
    """Each index of a dim is repeated: `(axis copies)`."""
    if not isinstance(repeats, int) or dim is None:
        return recorder.give_up("repeat_interleave with a tensor of counts", [input, out])
    axes = list(recorder.axes(input))
    axes[dim] = recorder.product(axes[dim], recorder.fresh(repeats))
    return recorder.put(out, axes)


@operation("pixel_shuffle")
def pixel_shuffle(recorder: TraceRecorder, out: Tensor, input: Tensor, upscale_factor: int) -> None:
    """Channels `(c r r)` become channels and pixels."""
    axes = recorder.axes(input)
    channel, taps = recorder.factor(axes[-3], [-1, upscale_factor**2])
    recorder.make_free(taps)
    recorder.pin("it becomes part of a position", *axes[-2:])
    recorder.put(out, [*axes[:-3], channel, *(recorder.free(n) for n in out.shape[-2:])])


@operation("pixel_unshuffle")
def pixel_unshuffle(
    recorder: TraceRecorder, out: Tensor, input: Tensor, downscale_factor: int
) -> None:
    """Pixels become channels `(c r r)`."""
    axes = recorder.axes(input)
    channel = recorder.product(axes[-3], recorder.free(downscale_factor**2))
    recorder.pin("it becomes part of a position", *axes[-2:])
    recorder.put(out, [*axes[:-3], channel, *(recorder.free(n) for n in out.shape[-2:])])


@operation("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(recorder: TraceRecorder, out: Tensor, input: Tensor, groups: int) -> None:
    """Channels `(g c)` become `(c g)`."""
    axes = list(recorder.axes(input))
    group, channel = recorder.factor(axes[1], [groups, -1])
    axes[1] = recorder.product(channel, group)
    recorder.put(out, axes)


@operation("unfold", "im2col")
def unfold(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Patches: channels become `(c taps)`."""
    axes = recorder.axes(input)
    if out.dim() != 3 or input.dim() != 4:  # Tensor.unfold
        return recorder.give_up("Tensor.unfold", [input, out])
    taps = recorder.free(out.shape[1] // size(axes[1]))
    recorder.pin("it becomes part of a position", *axes[2:])
    columns = [axes[0], recorder.product(axes[1], taps), recorder.free(out.shape[2])]
    return recorder.put(out, columns)


@operation("fold", "col2im")
def fold(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Inverse of `unfold`: channels `(c taps)` become channels."""
    axes = recorder.axes(input)
    channel, taps = recorder.factor(axes[-2], [out.shape[-3], -1])
    recorder.make_free(taps)
    recorder.pin("it becomes part of a position", axes[-1])
    recorder.put(out, [*axes[:-2], channel, *(recorder.free(n) for n in out.shape[-2:])])
