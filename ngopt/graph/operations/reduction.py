"""Operations that sum up along dims, or normalise along them."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Term

_Dims: TypeAlias = int | Sequence[int] | None

_SYMMETRIC = """
sum mean nansum nanmean prod amax amin var std var_mean std_mean logsumexp all any count_nonzero
"""

_REASON = "entries are ranked along it"


@operation(*_SYMMETRIC.split())
def reduce(
    recorder: TraceRecorder, out: Any, input: Tensor, dim: _Dims = None, *_: Any, **__: Any
) -> None:
    """Dims are summed over, in whatever order; all of them by default."""
    dims = _listed(input, dim)
    recorder.mix(input, dims)
    for part in tensors(out):
        recorder.put(part, _kept(recorder, part, input, dims))


@operation("norm", "linalg_norm", "linalg_vector_norm", "vector_norm", "frobenius_norm")
def norm(
    recorder: TraceRecorder,
    out: Any,
    input: Tensor,
    p: Any = 2,
    dim: _Dims = None,
    *_: Any,
    **__: Any,
) -> None:
    """A reduction whose first argument is the order of the norm."""
    dims = _listed(input, dim)
    for d in dims if len(dims) == 2 else ():
        recorder.mix(input, [d])  # of a matrix, perhaps: its rows are compared with each other
    reduce(recorder, out, input, dim)


@operation("linalg_matrix_norm")
def matrix_norm(
    recorder: TraceRecorder,
    out: Any,
    input: Tensor,
    ord: Any = "fro",
    dim: _Dims = (-2, -1),
    *_: Any,
    **__: Any,
) -> None:
    """No norm of a matrix depends on the order of its rows and columns."""
    norm(recorder, out, input, ord, dim)


@operation("quantile", "nanquantile")
def quantile(
    recorder: TraceRecorder,
    out: Tensor,
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    **_: Any,
) -> None:
    """One reduction, or several along a new first dim."""
    dims = _listed(input, dim)
    recorder.mix(input, dims)
    axes = recorder.axes(input)
    kept = (
        [ONE if d in dims else a for d, a in enumerate(axes)] if keepdim else _without(axes, dims)
    )
    recorder.put(out, [*(recorder.free(n) for n in out.shape[: out.dim() - len(kept)]), *kept])


@operation("max", "min", "median", "nanmedian", "argmax", "argmin", "aminmax")
def extreme(
    recorder: TraceRecorder, out: Any, input: Tensor, dim: Any = None, *_: Any, **kwargs: Any
) -> None:
    """The place of an entry along the dim is part of the result, unless the dim is not given."""
    other = kwargs.get("other", dim)
    if isinstance(other, Tensor):  # max(x, y)
        recorder.put(out, recorder.broadcast(out.shape, input, other))
    elif dim is None and all(part.is_floating_point() for part in tensors(out)):
        reduce(recorder, out, input)
    else:
        _rank(recorder, out, input, dim)


@operation("sort", "argsort", "mode")
def sort(
    recorder: TraceRecorder, out: Any, input: Tensor, dim: Any = -1, *args: Any, **__: Any
) -> None:
    """Entries are put in order along a dim."""
    if isinstance(dim, bool):  # sort(stable, dim, descending)
        dim = args[0] if args else -1
    _rank(recorder, out, input, dim)


@operation("msort")
def msort(recorder: TraceRecorder, out: Tensor, input: Tensor) -> None:
    """Entries are put in order along the first dim."""
    _rank(recorder, out, input, 0)


@operation("topk", "kthvalue")
def topk(
    recorder: TraceRecorder, out: Any, input: Tensor, k: int, dim: int = -1, *_: Any, **__: Any
) -> None:
    """Some of the largest or smallest entries along a dim."""
    _rank(recorder, out, input, dim)


def _rank(recorder: TraceRecorder, out: Any, input: Tensor, dim: _Dims) -> None:
    dims, axes = _listed(input, dim), recorder.axes(input)
    recorder.pin(_REASON, *(axes[d] for d in dims))
    recorder.mix(input, dims)
    for part in tensors(out):
        kept = _kept(recorder, part, input, dims)
        if part.dim() == input.dim():
            for d in dims:
                kept[d] = recorder.fresh(part.shape[d], _REASON)
        recorder.put(part, kept)


@operation("softmax", "log_softmax", "softmin", "safe_softmax", kind="normalization")
def softmax(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int | None = None, *_: Any, **__: Any
) -> None:
    """Normalised along a dim."""
    if dim is None:  # as torch chooses
        dim = 0 if input.dim() in (0, 1, 3) else 1
    recorder.mix(input, _listed(input, dim))
    recorder.put(out, recorder.axes(input))


@operation("cosine_similarity")
def cosine_similarity(
    recorder: TraceRecorder, out: Tensor, x1: Tensor, x2: Tensor, dim: int = 1, *_: Any, **__: Any
) -> None:
    """Entry by entry, then summed over a dim."""
    _compare(recorder, out, x1, x2, dim)


@operation("linalg_vecdot")
def vecdot(
    recorder: TraceRecorder, out: Tensor, x: Tensor, y: Tensor, dim: int = -1, **_: Any
) -> None:
    """Entry by entry, then summed over a dim."""
    _compare(recorder, out, x, y, dim)


@operation("pairwise_distance")
def pairwise_distance(
    recorder: TraceRecorder, out: Tensor, x1: Tensor, x2: Tensor, *_: Any, **__: Any
) -> None:
    """Entry by entry, then summed over the last dim."""
    _compare(recorder, out, x1, x2, -1)


def _compare(recorder: TraceRecorder, out: Tensor, x1: Tensor, x2: Tensor, dim: int) -> None:
    shape = torch.broadcast_shapes(x1.shape, x2.shape)  # type: ignore[no-untyped-call]
    axes = recorder.broadcast(shape, x1, x2)
    dim %= len(axes)
    recorder.meet(*axes)
    for tensor in (x1, x2):
        recorder.mix(tensor, [d for d in [dim - len(axes) + tensor.dim()] if d >= 0])
    kept = _without(axes, [dim])
    recorder.put(out, kept if out.dim() == len(kept) else [*kept[:dim], ONE, *kept[dim:]])


def _kept(recorder: TraceRecorder, out: Tensor, input: Tensor, dims: Sequence[int]) -> list[Term]:
    axes = recorder.axes(input)
    if out.dim() == input.dim():
        return [ONE if d in dims else axis for d, axis in enumerate(axes)]
    return _without(axes, dims)


def _listed(input: Tensor, dim: _Dims) -> list[int]:
    """Dims counted from the front; all of them if none, or a flag in their place, is given."""
    if dim is None or isinstance(dim, bool) or dim == ():
        return list(range(input.dim()))
    dims = [dim] if isinstance(dim, int) else list(dim)
    return [d % max(input.dim(), 1) for d in dims]


def _without(axes: Sequence[Term], dims: Sequence[int]) -> list[Term]:
    return [axis for d, axis in enumerate(axes) if d not in dims]
