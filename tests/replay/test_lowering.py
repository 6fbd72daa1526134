"""Each operation is replayed as torch computes it, in every layout of memory."""

import pytest
import torch
from torch import Tensor

from ngopt.fused.rounding import rounded
from ngopt.replay.lowering import LOWERINGS
from ngopt.replay.recorder import Call, record
from ngopt.replay.replay import Replay

aten = torch.ops.aten

A, B, C = (2, 3, 4), (4,), (2, 1, 4)
S = ()

CASES = {
    "neg": (lambda a: -a, [A]),
    "abs": (lambda a: a.abs(), [A]),
    "sqrt": (lambda a: a.abs().sqrt(), [A]),
    "rsqrt": (lambda a: (a.abs() + 0.1).rsqrt(), [A]),
    "reciprocal": (lambda a: (a + 9).reciprocal(), [A]),
    "exp": (lambda a: a.exp(), [A]),
    "expm1": (lambda a: (a / 100).expm1(), [A]),
    "log": (lambda a: (a.abs() + 0.1).log(), [A]),
    "tanh": (lambda a: a.tanh(), [A]),
    "sigmoid": (lambda a: a.sigmoid(), [A]),
    "relu": (lambda a: a.relu(), [A]),
    "square": (lambda a: a.square(), [A]),
    "clone": (lambda a: a.mT.clone(), [A]),
    "contiguous": (lambda a: a.transpose(0, 2).contiguous(), [A]),
    "to double": (lambda a: a.double() + 1, [A]),
    "to half": (lambda a: a.bfloat16(), [A]),
    "from half": (lambda a: a.bfloat16().float() * 2, [A]),
    "to whole": (lambda a: (a * 10).long(), [A]),
    "add": (lambda a, b: a + b, [A, B]),
    "add alpha": (lambda a, b: torch.add(a, b, alpha=0.3), [A, C]),
    "add number": (lambda a: a + 2.5, [A]),
    "add mixed": (lambda a, b: a + b.double(), [A, S]),
    "add 0-dim double": (lambda a: a + torch.full((), 0.1, dtype=torch.float64), [A]),
    "add in place": (lambda a, b: a.clone().add_(b).add_(1), [A, B]),
    "sub": (lambda a, b: a - b, [B, A]),
    "sub number": (lambda a: a - 1.5, [A]),
    "sub alpha": (lambda a, b: torch.sub(a, b, alpha=0.3), [A, A]),
    "sub in place": (lambda a, b: a.clone().sub_(b, alpha=2), [A, A]),
    "rsub": (lambda a: 1 - a, [A]),
    "rsub tensor": (lambda a, b: aten.rsub.Tensor(a, b, alpha=0.3), [A, C]),
    "add scalar": (lambda a: aten.add.Scalar(a, 2.5, 0.3), [A]),
    "add scalar in place": (lambda a: aten.add_.Scalar(a.clone(), 2.5), [A]),
    "sub scalar": (lambda a: aten.sub.Scalar(a, 2.5, 0.3), [A]),
    "sub scalar in place": (lambda a: aten.sub_.Scalar(a.clone(), 2.5), [A]),
    "mul scalar": (lambda a: aten.mul.Scalar(a, 2.5), [A]),
    "mul scalar in place": (lambda a: aten.mul_.Scalar(a.clone(), 2.5), [A]),
    "div scalar": (lambda a: aten.div.Scalar(a, 3), [A]),
    "div scalar in place": (lambda a: aten.div_.Scalar(a.clone(), 3), [A]),
    "mul": (lambda a, b: a * b, [A, C]),
    "mul number": (lambda a: a * 2.5, [A]),
    "mul in place": (lambda a, b: a.clone().mul_(b).mul_(3), [A, S]),
    "div": (lambda a, b: a / (b + 9), [A, B]),
    "div number": (lambda a: a / 3, [A]),
    "number div": (lambda a: 3 / (a + 9), [A]),
    "div in place": (lambda a, b: a.clone().div_(b + 9), [A, B]),
    "pow 2": (lambda a: a**2, [A]),
    "pow 3": (lambda a: a**3, [A]),
    "pow -0.5": (lambda a: (a.abs() + 1) ** -0.5, [A]),
    "pow of": (lambda a: 0.9**a, [A]),
    "clamp": (lambda a: a.clamp(-0.5, 0.5), [A]),
    "clamp min": (lambda a: a.clamp(min=0.1), [A]),
    "clamp max": (lambda a: a.clamp(max=0.1), [A]),
    "clamp_min": (lambda a: a.clamp_min(0.1), [A]),
    "addcmul": (lambda a, b, c: torch.addcmul(a, b, c, value=0.7), [A, B, C]),
    "addcmul_": (lambda a, b, c: a.clone().addcmul_(b, c), [A, B, C]),
    "addcdiv": (lambda a, b, c: torch.addcdiv(a, b, c + 9, value=0.7), [A, B, C]),
    "addcdiv_": (lambda a, b, c: a.clone().addcdiv_(b, c + 9), [A, B, C]),
    "rounded": (lambda a, b: rounded(a.abs().float(), b.float()), [A, A]),
    "maximum": (lambda a, b: torch.maximum(a, b), [A, B]),
    "minimum": (lambda a, b: torch.minimum(a, b), [A, B]),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.1) + torch.lerp(a, b, 0.9), [A, A]),
    "lerp by": (lambda a, b, c: torch.lerp(a, b, c), [A, A, A]),
    "lerp_": (lambda a, b: a.clone().lerp_(b, 0.1), [A, A]),
    "zeros": (lambda a: torch.zeros(2, 3, 4) + a, [A]),
    "zeros_like": (lambda a: torch.zeros_like(a).add_(a), [A]),
    "new_zeros": (lambda a: a.new_zeros(4) + a, [A]),
    "zeros of half": (lambda a: torch.zeros_like(a, dtype=torch.bfloat16).to(a) + a, [A]),
    "ones": (lambda a: torch.ones(4) * a, [A]),
    "ones_like": (lambda a: torch.ones_like(a) * a, [A]),
    "full": (lambda a: torch.full((4,), 2.5) * a, [A]),
    "full_like": (lambda a: torch.full_like(a, 2.5) * a, [A]),
    "zero_": (lambda a: (a + 1).zero_() + a, [A]),
    "fill_": (lambda a: (a + 1).fill_(2.0) + a, [A]),
    "fill_ tensor": (lambda a, b: (a + 1).fill_(b) + a, [A, S]),
    "copy_": (lambda a, b: torch.empty(2, 3, 4).copy_(b) + a, [A, B]),
    "part of a tensor": (lambda a: _part(a), [A]),
    "sum": (lambda a: a.sum(), [A]),
    "sum of dims": (lambda a: a.sum((0, 2)), [A]),
    "sum with dims": (lambda a: a.sum((0, -1), keepdim=True), [A]),
    "sum of 0-dim": (lambda a: a.sum(), [S]),
    "mean": (lambda a: a.mean(), [A]),
    "mean of dims": (lambda a: a.mT.mean((1,)), [A]),
    "mean with dims": (lambda a: a.mean(1, keepdim=True), [A]),
    "stack": (lambda a, b: torch.stack([a, b, a * 2], 1), [A, A]),
    "stack last": (lambda a, b: torch.stack([a, b], -1), [A, A]),
    "cat": (lambda a, b: torch.cat([a, b, b], 1), [A, C]),
    "cat other types": (lambda a, b: torch.cat([a, b.double()], 1), [A, C]),
    "mm": (lambda a, b: a @ b, [(5, 7), (7, 3)]),
    "mm transposed": (lambda a, b: a.mT @ b.mT, [(7, 5), (3, 7)]),
    "mm long": (lambda a, b: a @ b, [(33, 50), (50, 41)]),
    "bmm": (lambda a, b: a @ b, [(3, 5, 7), (3, 7, 20)]),
    "bmm broadcast": (lambda a, b: torch.bmm(a, b.expand(3, 7, 4)), [(3, 5, 7), (7, 4)]),
    "addmm": (lambda a, b, c: torch.addmm(c, a, b, beta=2, alpha=3), [(5, 7), (7, 3), (3,)]),
    "baddbmm": (
        lambda a, b: torch.baddbmm(a, a, b, beta=2, alpha=3),
        [(3, 5, 5), (3, 5, 5)],
    ),
    "baddbmm under vmap": (
        torch.vmap(lambda a, b: torch.baddbmm(a, a, b, beta=2, alpha=3)),
        [(2, 3, 5, 5), (2, 3, 5, 5)],
    ),
    "addmm under vmap": (
        torch.vmap(lambda a, b: torch.addmm(a, a, b, beta=2, alpha=3)),
        [(3, 5, 5), (3, 5, 5)],
    ),
    "mv": (lambda a, b: a @ b, [(5, 7), (7,)]),
    "dot": (lambda a, b: a @ b, [(7,), (7,)]),
    "views": (lambda a: a.unbind(0)[1][:, 1:3].squeeze().unsqueeze_(0).mT * 1, [A]),
    "constant": (lambda a: a @ torch.eye(4, dtype=a.dtype), [A]),
    "number as tensor": (lambda a: a * torch.tensor(3.0), [A]),
}


def _part(a):
    whole = torch.zeros(2, 5, 4)
    whole[:, 1:4] += a
    return whole


def draw(shapes, turned=False, dtype=torch.float32):
    """Tensors; turned, their memory is in the opposite order."""
    found = []
    for shape in shapes:
        tensor = torch.randn(shape[::-1] if turned else shape, dtype=dtype)
        found.append(tensor.permute(list(reversed(range(len(shape))))) if turned else tensor)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned"])
@pytest.mark.parametrize("name", CASES)
def test_as_torch(name, turned, dtype):
    function, shapes = CASES[name]
    replay = Replay(function)
    with torch.no_grad():
        for _ in range(2):
            given = draw(shapes, turned, dtype)
            kept = [tensor.clone() for tensor in given]
            expected, found = function(*given), replay(*given)
            assert isinstance(found, Tensor), "it was not replayed"
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            tolerance = 1e-5 if dtype == torch.float32 or "half" in name else 1e-12
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
            assert all(map(torch.equal, given, kept))


def test_every_operation_is_tested():
    seen = set()
    with torch.no_grad():
        for function, shapes in CASES.values():
            recording, _ = record(function, tuple(draw(shapes)))
            seen |= {call.function for call in recording.calls if isinstance(call, Call)}
    assert not LOWERINGS.keys() - seen


def test_what_is_not_a_number_stays_that():
    replay = Replay(lambda a: (a.relu(), a.clamp(-1, 1), torch.maximum(a, a * 0), a.bfloat16()))
    given = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    with torch.no_grad():
        for found, expected in zip(
            replay(given),
            (given.relu(), given.clamp(-1, 1), torch.maximum(given, given * 0), given.bfloat16()),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)


def test_half_precision_is_rounded_as_torch_rounds():
    given = torch.cat([torch.randn(1000), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 3e38, 1e-40])])
    with torch.no_grad():
        assert torch.equal(Replay(lambda a: a.bfloat16())(given), given.bfloat16())


@pytest.mark.slow_steps
def test_more_dimensions_than_the_interpreter_goes_through():
    shape = [2] * 9
    replay = Replay(lambda a: a + a.permute(*range(8, -1, -1)))
    with torch.no_grad():
        assert replay(torch.randn(shape)) is None
        joined = Replay(lambda a: a + a)
        given = torch.randn(shape)
        assert torch.equal(joined(given), given + given)
