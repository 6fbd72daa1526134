"""Operations that put tensors together or take them apart along a dim."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Term, size
from ngopt.graph.views import split_singly


@operation("cat", "concat", "concatenate")
def cat(
    recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor], dim: int = 0, **_: Any
) -> None:
    """Axes one after another along a dim; the other dims run over the same."""
    _cat(recorder, out, [recorder.axes(t) for t in tensors if t.numel()], dim)


@operation("hstack")
def hstack(recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor]) -> None:
    """Along the second dim, or the only one."""
    _cat(recorder, out, [recorder.axes(t) or [ONE] for t in tensors], min(1, out.dim() - 1))


@operation("vstack", "row_stack")
def vstack(recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor]) -> None:
    """Along the first dim; vectors are rows."""
    axes = [recorder.axes(tensor) for tensor in tensors]
    _cat(recorder, out, [a if len(a) > 1 else [ONE, *(a or [ONE])] for a in axes], 0)


@operation("column_stack")
def column_stack(recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor]) -> None:
    """Along the second dim; vectors are columns."""
    axes = [recorder.axes(tensor) for tensor in tensors]
    _cat(recorder, out, [a if len(a) > 1 else [*(a or [ONE]), ONE] for a in axes], 1)


@operation("dstack")
def dstack(recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor]) -> None:
    """Along the third dim; vectors are rows and matrices have a last dim of size 1."""
    axes = [recorder.axes(tensor) for tensor in tensors]
    rows = [a if len(a) > 1 else [ONE, *(a or [ONE])] for a in axes]
    _cat(recorder, out, [a if len(a) > 2 else [*a, ONE] for a in rows], 2)


def _cat(recorder: TraceRecorder, out: Tensor, axes: Sequence[Sequence[Term]], dim: int) -> None:
    if not axes:
        recorder.put(out, [recorder.fresh(n, "it is empty") for n in out.shape])
        return
    dim %= out.dim()
    result = [
        recorder.concat(same) if d == dim else recorder.unify(*same)
        for d, same in enumerate(zip(*axes, strict=True))
    ]
    recorder.put(out, result)


@operation("stack")
def stack(recorder: TraceRecorder, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> None:
    """Tensors of the same axes along a new dim, which is not neurons."""
    axes = [recorder.unify(*same) for same in zip(*map(recorder.axes, tensors), strict=True)]
    axes.insert(dim % out.dim(), recorder.free(len(tensors)))
    recorder.put(out, axes)


@operation("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(
    recorder: TraceRecorder, out: Sequence[Tensor], input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Parts of a dim."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    start = 0
    for part in out:
        length = part.shape[dim]
        recorder.put(part, recorder.take(recorder.axes(input), dim % input.dim(), start, length))
        start += length


@operation("unbind", "iter")
def unbind(recorder: TraceRecorder, out: Sequence[Tensor], input: Tensor, dim: int = 0) -> None:
    """Single indices of a dim, which goes."""
    for i, part in enumerate(out):
        recorder.put(part, select_axes(recorder, recorder.axes(input), dim % input.dim(), i))


@operation("select")
def select(recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, index: int) -> None:
    """One index of a dim, which goes."""
    recorder.put(out, select_axes(recorder, recorder.axes(input), dim % input.dim(), index))


@operation("narrow")
def narrow(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, start: int | Tensor, length: int
) -> None:
    """A range of a dim."""
    first = int(start) % max(input.shape[dim], 1)
    if length:
        axes = recorder.take(recorder.axes(input), dim % input.dim(), first, int(length))
    else:
        axes = [recorder.fresh(n, "it is empty") for n in out.shape]
    recorder.put(out, axes)


def select_axes(recorder: TraceRecorder, axes: Sequence[Term], dim: int, index: int) -> list[Term]:
    """Axes after one index of a dim is taken."""
    n = size(axes[dim])
    if n <= 4:  # so that (query, key, value) in any order become three parts at once
        split_singly(recorder.solver, axes[dim])
    kept = recorder.take(axes, dim, index % n, 1) if n > 1 else list(axes)
    return [axis for d, axis in enumerate(kept) if d != dim]


@operation("glu", kind="elementwise")
def glu(recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int = -1) -> None:
    """The first half of a dim, gated by the second half."""
    dim %= input.dim()
    axes, half = recorder.axes(input), out.shape[dim]
    first = recorder.take(axes, dim, 0, half)
    gate = recorder.take(axes, dim, half, half)
    recorder.put(out, [recorder.unify(a, b) for a, b in zip(first, gate, strict=True)])


@operation("pad")
def pad(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> None:
    """Entries before and after a dim; new places are no neurons of the old ones."""
    axes = list(recorder.axes(input))
    for i in range(len(pad) // 2):
        dim, before, after = -1 - i, pad[2 * i], pad[2 * i + 1]
        if not before and not after:
            continue
        if mode == "constant" and before >= 0 and after >= 0:
            around = [recorder.fresh(before), axes[dim], recorder.fresh(after)]
            axes[dim] = recorder.concat([axis for axis in around if size(axis)])
        else:
            recorder.pin("it is padded with its own entries", axes[dim])
            axes[dim] = recorder.free(out.shape[dim])
    recorder.put(out, axes)
