"""Scaled dot-product attention."""

from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import Term, size

_CAUSAL = "causal attention tells positions apart"


@operation("scaled_dot_product_attention")
def scaled_dot_product_attention(
    recorder: TraceRecorder,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *_: Any,
    enable_gqa: bool = False,
    **__: Any,
) -> None:
    """Query `... l e`, key `... s e`, value `... s v`: sums over `e` and `s`, result `... l v`.

    Nothing ties the dims of values to those of queries and keys. With `enable_gqa`, the heads of
    queries are `(heads of keys, group)`.
    """
    q, k, v = (list(recorder.axes(t)) for t in (query, key, value))
    if enable_gqa:
        for axes in (k, v):
            repeats = size(q[-3]) // size(axes[-3])
            axes[-3] = recorder.product(axes[-3], recorder.fresh(repeats))
    batch = [_shared(recorder, *axes) for axes in zip(q[:-2], k[:-2], v[:-2], strict=True)]
    recorder.unify(q[-1], k[-1])
    recorder.unify(k[-2], v[-2])
    recorder.meet(*batch, q[-2], k[-2], k[-1])
    recorder.meet(*batch, q[-2], k[-2], v[-1])
    for tensor, dims in ((query, [-1]), (key, [-1, -2]), (value, [-2])):
        recorder.mix(tensor, dims)
    if is_causal:
        recorder.pin(_CAUSAL, q[-2], k[-2])
    if attn_mask is not None:
        for axis, mask in zip(
            reversed([*batch, q[-2], k[-2]]), reversed(recorder.axes(attn_mask)), strict=False
        ):
            _shared(recorder, axis, mask)
    recorder.put(out, [*batch, q[-2], v[-1]])


@operation("flex_attention")
def flex_attention(
    recorder: TraceRecorder, out: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> None:
    """Attention with functions of batch, head and positions, which may tell all of these apart."""
    result, *rest = out if isinstance(out, tuple) else (out,)
    grouped = query.shape[-3] != key.shape[-3]
    scaled_dot_product_attention(recorder, result, query, key, value, enable_gqa=grouped)
    told_apart = "attention may tell its indices apart"
    for tensor in (query, key):
        recorder.pin(told_apart, *recorder.axes(tensor)[:-1])
    for tensor in rest:
        recorder.put(tensor, [recorder.fresh(n, told_apart) for n in tensor.shape])


def _shared(recorder: TraceRecorder, *axes: Term) -> Term:
    full = [axis for axis in axes if size(axis) > 1]
    return recorder.unify(*full) if full else axes[0]
