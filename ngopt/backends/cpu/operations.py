"""Single operations of torch in C, each on numbers that are there as `float`."""

from collections.abc import Mapping

from ngopt.backends.function import Emit
from ngopt.features import rounding

PRELUDE = f"""
{rounding.SOURCE}"""
PRELUDE += """
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float from_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline uint32_t to_bits(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
static inline float wide(uint16_t x) { return from_bits((uint32_t)x << 16); }
/* To the nearest bfloat16, ties to even. */
static inline uint16_t narrow(float x) {
  uint32_t bits = to_bits(x);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
static inline float within(float x, float most) {
  x = x < most ? x : most;
  return x > -most ? x : -most;
}
/* exp(n log 2 + r) = 2^n exp(r) with |r| <= log(2) / 2, where a polynomial does for exp. */
static inline float exp_of(float x) {
  x = within(x, 87.0f);
  float n = rintf(x * 1.44269504f);
  float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = (p * r * r + r) + 1.0f;
  return p * from_bits((uint32_t)((int32_t)n + 127) << 23);
}
static inline float tanh_of(float x) {
  float e = exp_of(2.0f * within(x, 9.0f));
  return (e - 1.0f) / (e + 1.0f);
}
static inline float rsqrt_of(float x) { return 1.0f / sqrtf(x); }
static inline float relu_of(float x) { return x > 0.0f ? x : 0.0f; }
"""


def _alpha(sign: str) -> Emit:
    def emit(a: str, b: str, alpha: str = "1.0f") -> str:
        return f"{a} {sign} {b}" if alpha == "1.0f" else f"{a} {sign} {alpha} * {b}"

    return emit


def _power(a: str, exponent: str) -> str:
    known = {"2.0f": f"{a} * {a}", "0.5f": f"sqrtf({a})", "-0.5f": f"rsqrt_of({a})"}
    return known.get(exponent, f"powf({a}, {exponent})")


OPERATIONS: Mapping[str, Emit] = {
    "add": _alpha("+"),
    "sub": _alpha("-"),
    "mul": lambda a, b: f"{a} * {b}",
    "div": lambda a, b: f"{a} / {b}",
    "neg": lambda a: f"-{a}",
    "reciprocal": lambda a: f"1.0f / {a}",
    "lerp": lambda a, b, weight: f"fmaf({weight}, {b} - {a}, {a})",
    "addcmul": lambda a, b, c, value="1.0f": (
        f"fmaf({b}, {c}, {a})" if value == "1.0f" else f"fmaf({value} * {b}, {c}, {a})"
    ),
    "pow": _power,
    "sqrt": lambda a: f"sqrtf({a})",
    "rsqrt": lambda a: f"rsqrt_of({a})",
    "expm1": lambda a: f"expm1f({a})",
    "exp": lambda a: f"exp_of({a})",
    "tanh": lambda a: f"tanh_of({a})",
    "relu": lambda a: f"relu_of({a})",
    "gt": lambda a, b: f"{a} > {b}",
    "where": lambda condition, a, b: f"{condition} ? {a} : {b}",
    "minimum": lambda a, b: f"{a} < {b} ? {a} : {b}",
    "clamp_min": lambda a, least: f"{a} < {least} ? {least} : {a}",
    "rounded": lambda a, step: f"rounded_of({a}, {step})",
    "zeros_like": lambda a: "0.0f",
    "_to_copy": lambda a: a,
    "detach": lambda a: a,
    "alias": lambda a: a,
    "view": lambda a: a,
    "expand": lambda a: a,
}
"""By name of the operation of ATen. Copies convert on loading and on storing only."""
