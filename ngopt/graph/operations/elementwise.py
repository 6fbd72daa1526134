"""Operations that treat every entry alike: arithmetic, activations, comparisons, casts, dropout."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder

_ONE_TENSOR = """
alias bfloat16 bool byte clone conj conj_physical contiguous cpu cuda data detach double float half
imag int long pin_memory real requires_grad resolve_conj resolve_neg short to type type_as
detach.default lift_fresh.default
alpha_dropout dropout dropout1d dropout2d dropout3d feature_alpha_dropout feature_dropout
"""

_ENTRY_BY_ENTRY = """
abs absolute acos acosh angle arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh
bitwise_not ceil celu clamp clamp_max clamp_min clip cos cosh deg2rad digamma elu erf erfc erfinv
exp exp2 expm1 fix floor frac gelu hardshrink hardsigmoid hardswish hardtanh i0 inv invert isfinite
isinf isnan isneginf isposinf isreal leaky_relu lgamma log log10 log1p log2 log_sigmoid logical_not
logit logsigmoid mish nan_to_num neg negative pos positive rad2deg reciprocal relu relu6 round rrelu
rsqrt selu sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink softsign sqrt square tan
tanh tanhshrink threshold trunc
add sub subtract rsub mul multiply div divide true_divide floor_divide remainder fmod pow rpow
float_power copysign radd rmul rdiv rtruediv truediv floordiv rfloordiv mod rmod iadd isub imul idiv
itruediv ipow maximum minimum fmax fmin atan2 arctan2 hypot ldexp lerp addcmul addcdiv
masked_fill eq ne lt le gt ge greater greater_equal less less_equal not_equal isclose logical_and
logical_or logical_xor bitwise_and bitwise_or bitwise_xor and or xor ror iand ior ixor
heaviside xlogy logaddexp logaddexp2 copy complex polar
"""


def tensors(*values: Any) -> Iterator[Tensor]:
    """All tensors among arguments, also those in lists, tuples and dicts."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(*value)
        elif isinstance(value, dict):
            yield from tensors(*value.values())


@operation(*_ONE_TENSOR.split(), kind="elementwise")
def same(recorder: TraceRecorder, out: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> None:
    """The result has the axes of the first argument; the others only say how."""
    recorder.put(out, recorder.axes(input), uniform=recorder.is_uniform(input))


@operation(*_ENTRY_BY_ENTRY.split(), kind="elementwise")
def combine(recorder: TraceRecorder, out: Tensor, *args: Any, **kwargs: Any) -> None:
    """Tensors are broadcast against each other."""
    recorder.put(out, recorder.broadcast(out.shape, *tensors(args, kwargs)))


@operation("prelu", kind="elementwise")
def prelu(recorder: TraceRecorder, out: Tensor, input: Tensor, weight: Tensor) -> None:
    """Negative entries are scaled, by channel (axis 1) if there are several scales."""
    axes = recorder.axes(input)
    if weight.numel() > 1:
        recorder.unify(axes[1], recorder.axes(weight)[0])
    recorder.put(out, axes)
