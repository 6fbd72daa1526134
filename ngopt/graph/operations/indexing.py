"""Operations that pick entries by index."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.joining import select_axes
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import ONE, Term, size

_PICKED = "it is picked from by index"


@operation("__getitem__", "getitem")
def getitem(recorder: TraceRecorder, out: Tensor, input: Tensor, index: Any) -> None:
    """Integers, slices, None and `...` by dim; tensors of indices pin the dims they pick from."""
    recorder.put(out, index_axes(recorder, recorder.axes(input), index, out))


@operation("__setitem__", "setitem")
def setitem(recorder: TraceRecorder, out: None, input: Tensor, index: Any, value: Any) -> None:
    """The entries written run over the same as those they replace."""
    axes = recorder.axes(input)
    if not isinstance(value, Tensor):
        index_axes(recorder, axes, index, input[index])
        return
    written = index_axes(recorder, axes, index, input[index])
    for axis, new in zip(reversed(written), reversed(recorder.axes(value)), strict=False):
        if size(axis) == size(new) and not recorder.is_uniform(value):
            recorder.unify(axis, new)


def index_axes(
    recorder: TraceRecorder, axes: Sequence[Term], index: Any, out: Tensor
) -> list[Term]:
    """Axes of `tensor[index]`; `out` has its shape."""
    result, dim = list(axes), 0  # `dim` is the next one that an item of the index speaks of
    picked: list[int] = []  # places in the result of indices given by tensors
    for item in _spelled_out(index, len(axes)):
        if item is None:
            result.insert(dim, ONE)
            dim += 1
        elif isinstance(item, slice):
            result = _slice(recorder, result, dim, item)
            dim += 1
        elif not isinstance(item, (list, Tensor)) and not isinstance(item, bool):
            result = select_axes(recorder, result, dim, int(item))
        else:
            spanned = _spanned(item)
            recorder.pin(_PICKED, *result[dim : dim + spanned])
            del result[dim : dim + spanned]
            picked.append(dim)
    if picked:
        new = [recorder.fresh(n, _PICKED) for n in out.shape]
        if len(set(picked)) > 1 or len(result) > len(new):  # torch moves these dims to the front
            recorder.pin(_PICKED, *result)
            return new
        count = len(new) - len(result)
        result[picked[0] : picked[0]] = new[picked[0] : picked[0] + count]
    return result


def _spelled_out(index: Any, count: int) -> list[Any]:
    """Items of an index, with as many whole slices as `...` (or the end) stands for."""
    items = list(index) if isinstance(index, tuple) else [index]
    spanned = sum(_spanned(item) for item in items)
    whole = [slice(None)] * (count - spanned)
    for i, item in enumerate(items):
        if item is Ellipsis:
            return items[:i] + whole + items[i + 1 :]
    return items + whole


def _spanned(item: Any) -> int:
    """Number of dims that an item of an index speaks of."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8):
        return item.dim()
    return 1


def _slice(recorder: TraceRecorder, axes: list[Term], dim: int, item: slice) -> list[Term]:
    n = size(axes[dim])
    start, stop, step = item.indices(n)
    length = len(range(start, stop, step))
    if length == 0:
        return [*axes[:dim], recorder.fresh(0), *axes[dim + 1 :]]
    if step == 1:
        return recorder.take(axes, dim, start, length)
    if step > 1 and n % step == 0 and length == n // step:  # every second, third, ... entry
        outer, inner = recorder.factor(axes[dim], [length, step])
        apart = recorder.take([*axes[:dim], outer, inner, *axes[dim + 1 :]], dim + 1, start, 1)
        return [axis for d, axis in enumerate(apart) if d != dim + 1]
    recorder.pin("a slice skips over it", axes[dim])
    return [*axes[:dim], recorder.fresh(length, "a slice skips over it"), *axes[dim + 1 :]]


@operation("index_select")
def index_select(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, index: Tensor, **_: Any
) -> None:
    """Indices of one dim, in a given order."""
    axes = list(recorder.axes(input))
    recorder.pin(_PICKED, axes[dim])
    axes[dim] = recorder.fresh(out.shape[dim], _PICKED)
    recorder.put(out, axes)


@operation("gather")
def gather(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, index: Tensor, **_: Any
) -> None:
    """`out[i, j] = input[i, index[i, j]]` for dim 1."""
    recorder.put(out, _along(recorder, input, dim, index))


@operation("take_along_dim")
def take_along_dim(
    recorder: TraceRecorder, out: Tensor, input: Tensor, indices: Tensor, dim: int | None = None
) -> None:
    """As `gather`, but dims of size 1 are expanded, and without a dim all are flattened."""
    if dim is None or input.dim() != indices.dim() or not _fits(input, indices, dim):
        recorder.pin(_PICKED, *recorder.axes(input), *recorder.axes(indices))
        recorder.put(out, [recorder.fresh(n, _PICKED) for n in out.shape])
    else:
        recorder.put(out, _along(recorder, input, dim, indices))


def _fits(input: Tensor, index: Tensor, dim: int) -> bool:
    pairs = enumerate(zip(input.shape, index.shape, strict=True))
    return all(a == b for d, (a, b) in pairs if d != dim % input.dim())


def _along(recorder: TraceRecorder, input: Tensor, dim: int, *given: Tensor) -> list[Term]:
    """Unify the axes of tensors of indices with those of the input, but pin the one of the dim."""
    axes = recorder.axes(input)
    dim %= max(len(axes), 1)
    for tensor in (input, *given):
        recorder.mix(tensor, [dim])
    for other in map(recorder.axes, given):
        for d, (axis, place) in enumerate(zip(axes, other, strict=True)):
            if d == dim or size(axis) != size(place):
                recorder.pin(_PICKED, axis, place)
            else:
                recorder.unify(axis, place)
    return list(recorder.axes(given[0])) if given else axes


@operation("scatter", "scatter_add", "scatter_reduce")
def scatter(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, index: Tensor, src: Any = None,
    *_: Any, **__: Any
) -> None:  # fmt: skip
    """`out[i, index[i, j]] += src[i, j]` for dim 1."""
    _along(recorder, input, dim, *tensors(index, src))
    recorder.put(out, recorder.axes(input))


@operation("index_add", "index_copy", "index_reduce", "index_fill")
def index_add(
    recorder: TraceRecorder, out: Tensor, input: Tensor, dim: int, index: Tensor,
    source: Any = None, *_: Any, **__: Any
) -> None:  # fmt: skip
    """`out[index[i]] += source[i]` for dim 0."""
    given = [t for t in tensors(source) if t.dim()]
    _along(recorder, input, dim, *given)
    recorder.pin(_PICKED, *recorder.axes(input)[dim:][:1])
    recorder.put(out, recorder.axes(input))


@operation("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "take",
           "masked_scatter", "index_put", "bincount", "histc", "searchsorted", "multinomial",
           "put", "isin")  # fmt: skip
def by_value(recorder: TraceRecorder, out: Any, *args: Any, **kwargs: Any) -> None:
    """What comes out, and where, depends on the values and places of all entries."""
    for tensor in tensors(args, kwargs):
        recorder.pin(_PICKED, *recorder.axes(tensor))
    for part in tensors(out):
        recorder.put(part, [recorder.fresh(n, _PICKED) for n in part.shape])


@operation("where")
def where(recorder: TraceRecorder, out: Any, *args: Any, **kwargs: Any) -> None:
    """Entry by entry; with a condition alone, the places where it holds."""
    if isinstance(out, Tensor):
        recorder.put(out, recorder.broadcast(out.shape, *tensors(args, kwargs)))
    else:
        by_value(recorder, out, *args, **kwargs)


@operation("embedding", kind="embedding")
def embedding(
    recorder: TraceRecorder, out: Tensor, input: Tensor, weight: Tensor, *_: Any, **__: Any
) -> None:
    """Rows of a table."""
    rows, width = recorder.axes(weight)
    recorder.pin("its rows are picked by index", rows)
    recorder.use(weight, [rows])
    recorder.put(out, [*recorder.axes(input), width])


@operation("embedding_bag", kind="embedding")
def embedding_bag(recorder: TraceRecorder, out: Any, input: Tensor, weight: Tensor, *args: Any,
                  **kwargs: Any) -> None:  # fmt: skip
    """Sums or means of rows of a table. The two functions of this name swap their arguments."""
    if weight.is_floating_point() is False:
        input, weight = weight, input
    rows, width = recorder.axes(weight)
    recorder.pin("its rows are picked by index", rows)
    recorder.use(weight, [rows])
    first, *rest = out if isinstance(out, tuple) else (out,)
    recorder.put(first, [recorder.fresh(first.shape[0], "bags"), width])
    for tensor in rest:
        recorder.put(tensor, [recorder.fresh(n, "bags") for n in tensor.shape])
