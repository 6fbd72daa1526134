"""What each operation of torch is made of, in instructions."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from ngopt.fused import rounding
from ngopt.replay.draft import COMPUTED, Draft
from ngopt.replay.instructions import Launch, Product, Reduce
from ngopt.replay.recorder import FILLS, Call, UnsupportedError
from ngopt.replay.window import Window

aten = torch.ops.aten

Lowering = Callable[[Draft, Call], None]

UNARY = {
    aten.neg.default: "negative",
    aten.abs.default: "absolute",
    aten.sqrt.default: "root",
    aten.rsqrt.default: "inverse_root",
    aten.reciprocal.default: "reciprocal",
    aten.exp.default: "exponential",
    aten.expm1.default: "exponential_less_one",
    aten.log.default: "logarithm",
    aten.tanh.default: "tangent",
    aten.sigmoid.default: "sigmoid",
    aten.relu.default: "relu",
}
"""Functions of one tensor and nothing else."""

COPIES = (
    aten.clone.default,
    aten._to_copy.default,
    aten.copy_.default,
)


def _unary(draft: Draft, call: Call) -> None:
    draft.pointwise(UNARY[call.function], call.result, call.arguments[:1])


def _copy(draft: Draft, call: Call) -> None:
    source = call.arguments[1 if call.function is aten.copy_.default else 0]
    draft.copy(call.result, source)


def _add(draft: Draft, call: Call, sign: float = 1.0) -> None:
    left, right, alpha = _terms(call)
    alpha *= sign
    if isinstance(left, Window) and isinstance(right, Window):
        draft.pointwise("plus", call.result, (left, right), alpha)
    else:
        draft.pointwise("linear", call.result, (left,), 1.0, alpha * right)


def _subtract(draft: Draft, call: Call) -> None:
    _add(draft, call, -1.0)


def _reverse_subtract(draft: Draft, call: Call) -> None:
    value, other, alpha = _terms(call)
    if isinstance(other, Window):
        draft.pointwise("plus", call.result, (other, value), -alpha)
    else:
        draft.pointwise("less", call.result, (value,), other, alpha)


def _terms(call: Call) -> tuple[Window, Any, float]:
    """Two terms, and what the second (or the one that is subtracted) is multiplied with."""
    left, right, *rest = call.arguments
    return left, right, rest[0] if rest else call.options.get("alpha", 1)


def _multiply(draft: Draft, call: Call) -> None:
    windows = [value for value in call.arguments if isinstance(value, Window)]
    numbers = [value for value in call.arguments if not isinstance(value, Window)]
    if numbers:
        draft.pointwise("linear", call.result, windows, numbers[0])
    else:
        draft.pointwise("times", call.result, windows)


def _divide(draft: Draft, call: Call) -> None:
    above, below = call.arguments
    if not isinstance(below, Window):
        draft.pointwise("over", call.result, (above,), below)
    elif not isinstance(above, Window):
        draft.pointwise("under", call.result, (below,), above)
    else:
        draft.pointwise("divided", call.result, (above, below))


def _power(draft: Draft, call: Call) -> None:
    value, exponent = call.arguments
    special = {2: "square", 0.5: "root", -0.5: "inverse_root", -1: "reciprocal"}
    if exponent in special:
        draft.pointwise(special[exponent], call.result, (value,))
    else:
        draft.pointwise("power", call.result, (value,), exponent)


def _power_of(draft: Draft, call: Call) -> None:
    base, exponent = call.arguments
    draft.pointwise("base", call.result, (exponent,), base)


def _clamp(draft: Draft, call: Call) -> None:
    value, *bounds = call.arguments
    given = dict(zip(("min", "max"), bounds, strict=False)) | dict(call.options)
    low, high = given.get("min"), given.get("max")
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    draft.pointwise("clamp", call.result, (value,), low, high)


def _with_value(function: str) -> Lowering:
    def added(draft: Draft, call: Call) -> None:
        value = call.options.get("value", 1)
        draft.pointwise(function, call.result, call.arguments[:3], value)

    return added


def _binary(function: str) -> Lowering:
    def added(draft: Draft, call: Call) -> None:
        draft.pointwise(function, call.result, call.arguments[:2])

    return added


def _lerp(draft: Draft, call: Call) -> None:
    start, end, weight = call.arguments
    if isinstance(weight, Window):
        draft.pointwise("mixed_by", call.result, (start, end, weight))
    else:
        draft.pointwise("mixed", call.result, (start, end), weight)


def _fill(draft: Draft, call: Call) -> None:
    named = call.function.name().removeprefix("aten::")
    if named.startswith(("full", "fill_")):
        value = call.arguments[1]
    else:
        value = 1.0 if "ones" in named else 0.0
    if not isinstance(value, Window):
        number = draft.temporary((), torch.float64)
        draft.pointwise("fill", number, (number,), value)
        value = number
    draft.copy(call.result, value)


def _reduce(draft: Draft, call: Call) -> None:
    window, *rest = call.arguments
    dims = rest[0] if rest and rest[0] is not None else []
    if call.options.get("dtype") not in (None, window.dtype) or window.dtype not in COMPUTED:
        raise UnsupportedError(f"{call.function} of {window.dtype}")
    count = len(window.shape)
    summed = sorted({dim % count for dim in dims} or range(count)) if count else []
    kept = [dim for dim in range(count) if dim not in summed]
    order = [*kept, *summed]
    # With `keepdim`, dimensions of one entry are left in the result.
    out = call.result
    steps = tuple(out.stride[dim] for dim in kept) if len(out.shape) == count else out.stride
    shape = tuple(window.shape[dim] for dim in order)
    source = replace(window, shape=shape, stride=tuple(window.stride[dim] for dim in order))
    target = replace(out, shape=shape[: len(kept)], stride=steps)
    number = math.prod(shape[len(kept) :])
    divisor = float(number) if "mean" in call.function.name() else 1.0
    draft.instructions.append(Reduce(target, source, divisor))


def _join(draft: Draft, call: Call) -> None:
    windows, *rest = call.arguments
    out: Window = call.result
    dim = (rest[0] if rest else call.options.get("dim", 0)) % len(out.shape)
    stacked = call.function is aten.stack.default
    at = 0
    for window in windows:
        if len(window.shape) == 1 and not window.numel() and not stacked:
            continue
        shape, stride = list(window.shape), list(window.stride)
        if stacked:
            shape.insert(dim, 1)
            stride.insert(dim, 0)
        moved = out.offset + at * out.stride[dim] * out.dtype.itemsize
        at += shape[dim]
        if window.numel():
            part = replace(window, shape=tuple(shape), stride=tuple(stride))
            draft.copy(replace(out, offset=moved, shape=tuple(shape)), part)


def _product(draft: Draft, call: Call) -> None:
    factors = list(call.arguments)
    added, beta, alpha = None, 1.0, 1.0
    if call.function in (aten.addmm.default, aten.baddbmm.default):
        added, *factors = call.arguments
        beta, alpha = (float(call.options.get(name, 1)) for name in ("beta", "alpha"))
        added = _batched(added.spread(call.result.shape))
    left, right = (_batched(factor) for factor in factors)
    if call.result.dtype not in COMPUTED:
        raise UnsupportedError(f"{call.function} of {call.result.dtype}")
    draft.instructions.append(Product(_batched(call.result), left, right, added, beta, alpha))


def _batched(window: Window) -> Window:
    """With a dimension of batches in front, if there is none."""
    if len(window.shape) == 3:
        return window
    return replace(window, shape=(1, *window.shape), stride=(0, *window.stride))


def _vector_product(draft: Draft, call: Call) -> None:
    """Of a matrix and a vector, or of two vectors."""
    left, right = call.arguments
    column = replace(right, shape=(*right.shape, 1), stride=(*right.stride, 0))
    out = call.result
    if call.function is aten.dot.default:
        left = replace(left, shape=(1, *left.shape), stride=(0, *left.stride))
        out = replace(out, shape=(1,), stride=(0,))
    target = replace(out, shape=(*out.shape, 1), stride=(*out.stride, 0))
    target, left, column = map(_batched, (target, left, column))
    draft.instructions.append(Product(target, left, column))


def _overloads(*functions: Any) -> tuple[Any, ...]:
    """With a tensor and with a number: Python calls the first, transforms such as vmap both."""
    return tuple(f for function in functions for f in (function.Tensor, function.Scalar))


def _families() -> Iterator[tuple[Any, Lowering]]:
    yield from ((function, _unary) for function in UNARY)
    yield from ((function, _copy) for function in COPIES)
    for family, lowering in (
        (_overloads(aten.add, aten.add_), _add),
        (_overloads(aten.sub, aten.sub_), _subtract),
        (_overloads(aten.rsub), _reverse_subtract),
        (_overloads(aten.mul, aten.mul_), _multiply),
        (_overloads(aten.div, aten.div_), _divide),
        ((aten.pow.Tensor_Scalar,), _power),
        ((aten.pow.Scalar,), _power_of),
        ((aten.clamp.default, aten.clamp_min.default), _clamp),
        ((aten.addcmul.default, aten.addcmul_.default), _with_value("plus_product")),
        ((aten.addcdiv.default, aten.addcdiv_.default), _with_value("plus_ratio")),
        ((rounding.NAME,), _binary("rounded")),
        ((aten.maximum.default,), _binary("larger")),
        ((aten.minimum.default,), _binary("smaller")),
        ((aten.lerp.Scalar, aten.lerp.Tensor, aten.lerp_.Scalar), _lerp),
        ((*FILLS, aten.zero_.default, aten.fill_.Scalar, aten.fill_.Tensor), _fill),
        (
            (
                aten.sum.default,
                aten.sum.dim_IntList,
                aten.mean.default,
                aten.mean.dim,
            ),
            _reduce,
        ),
        ((aten.stack.default, aten.cat.default), _join),
        (
            (aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default),
            _product,
        ),
        ((aten.mv.default, aten.dot.default), _vector_product),
    ):
        yield from ((function, lowering) for function in family)


LOWERINGS: dict[Any, Lowering] = dict(_families())
"""From each operation to what adds its instructions."""


def lower(call: Call | Launch, draft: Draft) -> None:
    """Add the instructions of a call.

    Args:
        call: what was recorded.
        draft: where they are added.

    Raises:
        UnsupportedError: if there are none for it.
    """
    if isinstance(call, Launch):
        draft.instructions.append(call)
        return
    found = LOWERINGS.get(call.function)
    if found is None:
        raise UnsupportedError(f"there are no instructions for {call.function}")
    if call.result.numel():
        found(draft, call)
