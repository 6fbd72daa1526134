"""Sums of products: linear layers, matrix products, einsum."""

from string import ascii_letters
from typing import Any

from torch import Tensor

from ngopt.graph.operations.registry import operation
from ngopt.graph.recorder import TraceRecorder


@operation("linear", kind="linear")
def linear(
    recorder: TraceRecorder, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> None:
    """`... i, o i -> ... o`, plus a bias over `o`."""
    if weight.dim() == 1:
        contract(recorder, out, "...i,i->...", input, weight)
    else:
        contract(recorder, out, "...i,oi->...o", input, weight)
    if bias is not None and bias.dim():
        recorder.unify(recorder.axes(out)[-1], recorder.axes(bias)[-1])


@operation("bilinear", kind="linear")
def bilinear(
    recorder: TraceRecorder,
    out: Tensor,
    input1: Tensor,
    input2: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> None:
    """`... i, ... j, o i j -> ... o`, plus a bias over `o`."""
    contract(recorder, out, "...i,...j,oij->...o", input1, input2, weight)
    if bias is not None:
        recorder.unify(recorder.axes(out)[-1], recorder.axes(bias)[0])


@operation("matmul", "mm", "bmm", "mv", "imatmul", "linalg_matmul", kind="linear")
def matmul(recorder: TraceRecorder, out: Tensor, input: Tensor, other: Tensor, **_: Any) -> None:
    """`... i j, ... j k -> ... i k`; a vector on either side lacks `i` or `k`."""
    left = "j" if input.dim() == 1 else "...ij"
    right = "j" if other.dim() == 1 else "...jk" if other.dim() > 2 else "jk"
    output = ("..." if "." in left + right else "") + "ik"
    if input.dim() == 1:
        output = output.replace("i", "")
    if other.dim() == 1:
        output = output.replace("k", "")
    contract(recorder, out, f"{left},{right}->{output}", input, other)


@operation("rmatmul", kind="linear")
def rmatmul(recorder: TraceRecorder, out: Tensor, input: Tensor, other: Tensor) -> None:
    """`Tensor.__rmatmul__`: the second argument stands on the left."""
    matmul(recorder, out, other, input)


@operation("addmm", "baddbmm", "addmv", kind="linear")
def addmm(
    recorder: TraceRecorder, out: Tensor, input: Tensor, left: Tensor, right: Tensor, **_: Any
) -> None:
    """A matrix product, plus `input`."""
    matmul(recorder, out, left, right)
    recorder.put(out, recorder.broadcast(out.shape, out, input))


@operation("dot", "vdot", "inner", kind="linear")
def inner(recorder: TraceRecorder, out: Tensor, input: Tensor, other: Tensor) -> None:
    """Sum over the last axis of both."""
    left, right = _letters(input.dim() - 1), _letters(other.dim() - 1, input.dim())
    contract(recorder, out, f"{left}Z,{right}Z->{left}{right}", input, other)


@operation("outer", "ger")
def outer(recorder: TraceRecorder, out: Tensor, input: Tensor, vec2: Tensor) -> None:
    """`i, j -> i j`."""
    contract(recorder, out, "i,j->ij", input, vec2)


@operation("addr")
def addr(
    recorder: TraceRecorder, out: Tensor, input: Tensor, vec1: Tensor, vec2: Tensor, **_: Any
) -> None:
    """An outer product, plus `input`."""
    outer(recorder, out, vec1, vec2)
    recorder.put(out, recorder.broadcast(out.shape, out, input))


@operation("tensordot", kind="linear")
def tensordot(recorder: TraceRecorder, out: Tensor, a: Tensor, b: Tensor, dims: Any = 2) -> None:
    """Sum over the given dims of both."""
    if isinstance(dims, int):
        dims = (range(a.dim() - dims, a.dim()), range(dims))
    first, second = ([int(d) for d in side] for side in dims)
    left = list(_letters(a.dim()))
    right = list(_letters(b.dim(), a.dim()))
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    kept = [x for x in left if x not in right] + [x for x in right if x not in left]
    contract(recorder, out, f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


@operation("einsum", kind="linear")
def einsum(recorder: TraceRecorder, out: Tensor, equation: str, *operands: Any) -> None:
    """As the equation says; without an arrow, letters that stand once are kept, sorted."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    equation = equation.replace(" ", "")
    if "->" not in equation:
        single = [x for x in sorted(set(equation) - set(",.")) if equation.count(x) == 1]
        equation += "->" + ("..." if "..." in equation else "") + "".join(single)
    contract(recorder, out, equation, *operands)


@operation("cdist")
def cdist(recorder: TraceRecorder, out: Tensor, x1: Tensor, x2: Tensor, *_: Any, **__: Any) -> None:
    """Distances between rows, summed over the last axis."""
    contract(recorder, out, "...im,...jm->...ij", x1, x2)


def contract(recorder: TraceRecorder, out: Tensor, equation: str, *operands: Tensor) -> None:
    """Record a sum of products given as an einsum equation; `...` aligns from the right."""
    left, output = equation.split("->")
    inputs = []
    longest = ""
    spare = [x for x in reversed(ascii_letters) if x not in equation]
    for letters, tensor in zip(left.split(","), operands, strict=True):
        if "..." in letters:
            count = tensor.dim() - len(letters) + 3
            dots = "".join(spare[:count][::-1])
            longest = max(longest, dots, key=len)
            letters = letters.replace("...", dots)
        inputs.append(letters)
    recorder.put(out, recorder.contract(inputs, output.replace("...", longest), operands))


def _letters(count: int, start: int = 0) -> str:
    return ascii_letters[start : start + count]
