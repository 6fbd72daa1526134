"""Operations that sum up along dims, or normalise along them."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.elementwise import tensors
from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import Recorder
from ngopt.graph.terms import ONE, Term

_SYMMETRIC = """
sum mean nansum nanmean prod amax amin var std norm vector_norm logsumexp all any count_nonzero
linalg_vector_norm linalg_norm frobenius_norm
"""

_BY_PLACE = "max min median nanmedian mode argmax argmin sort argsort topk kthvalue aminmax"


@operation(*_SYMMETRIC.split())
def reduce(recorder: Recorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Dims are summed over, in whatever order."""
    recorder.put(out, _kept(recorder, out, input, args, kwargs))


@operation("var_mean", "std_mean")
def reduce_twice(
    recorder: Recorder, out: tuple[Tensor, ...], input: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Two reductions at once."""
    for part in out:
        recorder.put(part, _kept(recorder, part, input, args, kwargs))


@operation(*_BY_PLACE.split())
def select(recorder: Recorder, out: Any, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """The place of an entry along the dim is part of the result."""
    if args and isinstance(args[0], Tensor):  # max(x, y)
        return recorder.put(out, recorder.broadcast(out.shape, input, *args[:1]))
    parts = list(tensors(out))
    if all(part.dim() == 0 for part in parts) and not args and not kwargs:
        for part in parts:
            recorder.put(part, [])
        return None
    dim = _dims(input, args[-1:] if len(args) == 1 else args[1:], kwargs, default=[-1])
    reason = "entries are ranked along it"
    recorder.pin(reason, *(recorder.axes(input)[d] for d in dim))
    for part in parts:
        if part.dim() == input.dim():
            axes = list(recorder.axes(input))
            for d in dim:
                axes[d] = recorder.fresh(part.shape[d], reason)
            recorder.put(part, axes)
        else:
            recorder.put(part, _without(recorder.axes(input), dim))
    return None


@operation("softmax", "log_softmax", "softmin", "safe_softmax", kind="normalization")
def softmax(recorder: Recorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """Normalised along a dim."""
    dim = _dims(input, args[:1], kwargs, default=[-1])
    recorder.mix(input, dim)
    recorder.put(out, recorder.axes(input))


@operation("cosine_similarity", "pairwise_distance")
def cosine_similarity(
    recorder: Recorder, out: Tensor, x1: Tensor, x2: Tensor, *args: Any, **kwargs: Any
) -> None:
    """Entry by entry, then summed over a dim (1 for the similarity, the last for the distance)."""
    lacks = max(x1.dim(), x2.dim()) - out.dim()
    dim = kwargs.get("dim", args[0] if args and isinstance(args[0], int) else 1)
    shape = [max(a, b) for a, b in zip(x1.shape, x2.shape, strict=True)]
    recorder.put(out, _without(recorder.broadcast(shape, x1, x2), [dim % x1.dim()][:lacks]))


def _kept(recorder: Recorder, out: Tensor, input: Tensor, args: Any, kwargs: Any) -> list[Term]:
    axes = recorder.axes(input)
    default = list(range(input.dim()))
    dims = _dims(input, [a for a in args if _is_dim(a)], kwargs, default)
    recorder.mix(input, dims)
    if out.dim() == input.dim():
        return [ONE if d in dims else axis for d, axis in enumerate(axes)]
    return _without(axes, dims)


def _is_dim(value: Any) -> bool:
    return isinstance(value, (int, list, tuple)) and not isinstance(value, bool)


def _dims(input: Tensor, args: Any, kwargs: Any, default: list[int]) -> list[int]:
    given = kwargs.get("dim", kwargs.get("axis", args[0] if len(args) else None))
    if given is None:
        given = default
    dims = [given] if isinstance(given, int) else list(given) or default
    return [d % max(input.dim(), 1) for d in dims]


def _without(axes: list[Term], dims: list[int]) -> list[Term]:
    return [axis for d, axis in enumerate(axes) if d not in dims]
