"""Operations to which the order of the entries along a dim matters."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder

_REASON = "the order along it matters"


@operation("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def running(recorder: TraceRecorder, out: Any, input: Tensor, dim: int, **_: Any) -> None:
    """Sums, products and the like of all entries up to one."""
    _order(recorder, out, input, [dim])


@operation("flip")
def flip(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, dims: Any = None) -> None:
    """The last entries come first."""
    given = args if dims is None else (dims,)
    if len(given) == 1 and not isinstance(given[0], int):
        given = tuple(given[0])
    _order(recorder, out, input, given)


@operation("flipud")
def flipud(recorder: TraceRecorder, out: Tensor, input: Tensor) -> None:
    """The first dim backwards."""
    _order(recorder, out, input, [0])


@operation("fliplr")
def fliplr(recorder: TraceRecorder, out: Tensor, input: Tensor) -> None:
    """The second dim backwards."""
    _order(recorder, out, input, [1])


@operation("roll")
def roll(recorder: TraceRecorder, out: Tensor, input: Tensor, shifts: Any, dims: Any = ()) -> None:
    """Entries are moved on, along dims or (if none are given) in the flattened tensor."""
    dims = [dims] if isinstance(dims, int) else list(dims or range(input.dim()))
    _order(recorder, out, input, dims)


@operation("rot90")
def rot90(
    recorder: TraceRecorder, out: Tensor, input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)
) -> None:
    """A plane of two dims is turned."""
    _order(recorder, out, input, dims)


@operation("tril", "triu")
def triangle(recorder: TraceRecorder, out: Tensor, input: Tensor, *_: Any, **__: Any) -> None:
    """What is above or below the diagonal of the last two dims is set to zero."""
    _order(recorder, out, input, [-2, -1])


@operation("diff", "gradient")
def diff(
    recorder: TraceRecorder, out: Any, input: Tensor, n: int = 1, dim: int = -1, *_: Any, **__: Any
) -> None:
    """Differences of neighbours."""
    _order(recorder, out, input, [dim])


@operation("trapezoid", "trapz", "cumulative_trapezoid")
def trapezoid(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, dim: int = -1, **_: Any
) -> None:
    """Neighbours are averaged and summed."""
    _order(recorder, out, input, [dim])


@operation("diag", "diagonal", "diag_embed", "trace")
def diagonal(
    recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Row and column of the same place; a vector that becomes a diagonal keeps its neurons."""
    axes = recorder.axes(input)
    if len(axes) == 1 and out.dim() == 2 and not args and not kwargs:
        recorder.put(out, [axes[0], axes[0]])
    else:
        _order(recorder, out, input, range(len(axes)))


def _order(recorder: TraceRecorder, out: Any, input: Tensor, dims: Sequence[int]) -> None:
    axes = recorder.axes(input)
    dims = [d % max(len(axes), 1) for d in dims]
    recorder.pin(_REASON, *(axes[d] for d in dims))
    recorder.mix(input, dims)
    for part in tensors(out):
        kept = axes
        if part.dim() != len(axes):
            kept = [axis for d, axis in enumerate(axes) if d not in dims]
        if part.dim() != len(kept):  # such as the diagonal
            kept = [recorder.fresh(n, _REASON) for n in part.shape]
        recorder.put(part, kept)
