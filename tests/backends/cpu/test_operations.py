import pytest
import torch

from ngopt.backends.cpu.kernel import Kernel
from ngopt.backends.cpu.operations import OPERATIONS
from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.errors import NgoptError
from ngopt.features.rounding import rounded
from tests.backends import running

FUNCTIONS = {
    "add": lambda a, b, c: torch.add(a, b, alpha=0.3) + 2,
    "sub": lambda a, b, c: torch.sub(a, b, alpha=-3) - 0.1,
    "mul": lambda a, b, c: a * b * 1e-3,
    "div": lambda a, b, c: a / b / 7,
    "neg": lambda a, b, c: -a,
    "reciprocal": lambda a, b, c: a.reciprocal(),
    "lerp": lambda a, b, c: torch.lerp(a, b, 0.2),
    "addcmul": lambda a, b, c: torch.addcmul(torch.addcmul(a, b, c), a, c, value=-0.5),
    "pow": lambda a, b, c: a**2 + b**0.5 + b**-0.5 + b**1.5,
    "sqrt": lambda a, b, c: b.sqrt(),
    "rsqrt": lambda a, b, c: torch.rsqrt(b),
    "expm1": lambda a, b, c: torch.expm1(a / 10),
    "exp": lambda a, b, c: torch.exp(3 * a),
    "tanh": lambda a, b, c: torch.tanh(a),
    "relu": lambda a, b, c: torch.relu(a),
    "gt": lambda a, b, c: torch.where(a > 0.1, a, b),
    "where": lambda a, b, c: torch.where(a > b, c, b),
    "minimum": lambda a, b, c: torch.minimum(a, b) + torch.minimum(b, torch.minimum(c, a)),
    "clamp_min": lambda a, b, c: torch.clamp_min(a, 0.5) * torch.clamp_min(b, 1e-24),
    "rounded": lambda a, b, c: rounded(b, c),
    "zeros_like": lambda a, b, c: torch.zeros_like(a) + b,
    "_to_copy": lambda a, b, c: a.to(torch.bfloat16).float(),
    "detach": lambda a, b, c: a.detach() + b,
    "alias": lambda a, b, c: torch.ops.aten.alias(a) + b,
    "view": lambda a, b, c: a + b.view(b.shape),
    "expand": lambda a, b, c: a + b[:1].expand(1, -1) * 0 + b,
}
ENTRY = Argument(ArgumentShape.ENTRY)


def run(function, *arrays):
    kernel = Kernel(lambda *given: [function(*given)], [ENTRY] * 3, [Result((Use.STORE,))])
    return running.run(kernel, arrays)[0]


def test_each_operation_is_tried():
    assert FUNCTIONS.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("_to_copy", "expand")])
def test_equals_torch(name):
    a, b, c = torch.randn(9, 33) * 4, torch.rand(9, 33) + 0.1, torch.randn(9, 33)
    expected = FUNCTIONS[name](a, b, c)
    torch.testing.assert_close(run(FUNCTIONS[name], a, b, c), expected, rtol=1e-6, atol=1e-6)


def test_exponentials_far_out():
    line = torch.linspace(-120, 120, 1001).expand(1, -1).contiguous()
    tanh = run(lambda a, b, c: torch.tanh(a), line, line, line)
    torch.testing.assert_close(tanh, torch.tanh(line), rtol=0, atol=3e-7)
    assert run(lambda a, b, c: torch.tanh(0 * a), line, line, line).abs().max() == 0
    near = line.clamp(-80, 80)
    exp = run(lambda a, b, c: torch.exp(a), near, near, near)
    torch.testing.assert_close(exp, torch.exp(near), rtol=1e-6, atol=0)


def test_an_operation_that_is_not_there_is_named():
    with pytest.raises(NgoptError, match="uses atan, which is not there in C"):
        run(lambda a, b, c: torch.atan(a), *torch.ones(3, 2, 2))
