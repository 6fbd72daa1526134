"""Single operations of torch in Triton, each on float32."""

from collections.abc import Mapping

from ngopt.backends.function import Emit
from ngopt.features import rounding

PRELUDE = f"""
import triton
import triton.language as tl


@triton.jit
def expm1_of(x):
    series = x * (1.0 + x / 2 * (1.0 + x / 3 * (1.0 + x / 4 * (1.0 + x / 5 * (1.0 + x / 6)))))
    return tl.where(tl.abs(x) < 0.25, series, tl.exp(x) - 1.0)


@triton.jit
def tanh_of(x):
    e = tl.exp(2.0 * tl.minimum(tl.maximum(x, -9.0), 9.0))
    return (e - 1.0) / (e + 1.0)


# To the nearest bfloat16, ties to even, whatever a conversion does.
@triton.jit
def narrow(x):
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
    return bits.to(tl.float32, bitcast=True).to(tl.bfloat16)


@triton.jit
def rounded_of(x, step):
    place = ((step.to(tl.int64) * {rounding.GOLDEN}) & 0xFFFF).to(tl.int32)
    bits = (x.to(tl.int32, bitcast=True) + place) & -0x10000
    return bits.to(tl.float32, bitcast=True)
"""


def _power(a: str, exponent: str) -> str:
    known = {"2.0": f"{a} * {a}", "0.5": f"tl.sqrt({a})", "-0.5": f"1.0 / tl.sqrt({a})"}
    return known.get(exponent, f"tl.exp({exponent} * tl.log({a}))")


OPERATIONS: Mapping[str, Emit] = {
    "add": lambda a, b, alpha="1.0": f"{a} + {alpha} * {b}" if alpha != "1.0" else f"{a} + {b}",
    "sub": lambda a, b, alpha="1.0": f"{a} - {alpha} * {b}" if alpha != "1.0" else f"{a} - {b}",
    "mul": lambda a, b: f"{a} * {b}",
    "div": lambda a, b: f"{a} / {b}",
    "neg": lambda a: f"-{a}",
    "reciprocal": lambda a: f"1.0 / {a}",
    "lerp": lambda a, b, weight: f"{a} + {weight} * ({b} - {a})",
    "addcmul": lambda a, b, c, value="1.0": (
        f"{a} + {b} * {c}" if value == "1.0" else f"{a} + {value} * {b} * {c}"
    ),
    "pow": _power,
    "sqrt": lambda a: f"tl.sqrt({a})",
    "rsqrt": lambda a: f"1.0 / tl.sqrt({a})",
    "expm1": lambda a: f"expm1_of({a})",
    "exp": lambda a: f"tl.exp({a})",
    "tanh": lambda a: f"tanh_of({a})",
    "relu": lambda a: f"tl.maximum({a}, 0.0)",
    "gt": lambda a, b: f"{a} > {b}",
    "where": lambda condition, a, b: f"tl.where({condition}, {a}, {b})",
    "minimum": lambda a, b: f"tl.minimum({a}, {b})",
    "clamp_min": lambda a, least: f"tl.maximum({a}, {least})",
    "rounded": lambda a, step: f"rounded_of({a}, {step})",
    "zeros_like": lambda a: f"tl.zeros_like({a})",
    "_to_copy": lambda a: a,
    "detach": lambda a: a,
    "alias": lambda a: a,
    "view": lambda a: a,
    "expand": lambda a: a,
}
"""By name of the operation of ATen. Copies convert on loading and on storing only."""
