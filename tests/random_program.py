"""Random networks: programs of a few instructions, each a common way to use activations."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Instruction: TypeAlias = tuple[str, int, int, int]
"""An operation, which activations it takes (counted from the last), and a number."""

WIDEST = 24


class RandomProgram(nn.Module):
    """Runs instructions on a list of activations of shape `(batch, time, width)`.

    Every instruction appends what it makes. Those that do not fit what they are given make nothing.
    All activations that nothing else used are read out at the end.
    """

    def __init__(self, program: Sequence[Instruction], x: Tensor) -> None:
        super().__init__()
        self.program = list(program)
        self.layers = nn.ModuleDict()
        with torch.no_grad():
            self(x)  # makes the layers

    def layer(self, name: str, make: Callable[[], nn.Module]) -> nn.Module:
        if name not in self.layers:
            self.layers[name] = make()
        self.ran.append(self.layers[name])
        return self.ran[-1]

    def linear(self, name: str, x: Tensor, width: int) -> Tensor:
        return self.layer(name, lambda: nn.Linear(x.shape[-1], width))(x)

    def forward(self, x: Tensor) -> Tensor:
        self.ran: list[nn.Module] = []
        made, used = [self.linear("embed", x, 12)], set()
        for place, (operation, a, b, number) in enumerate(self.program):
            i, j = a % len(made), b % len(made)
            result = OPERATIONS[operation](self, f"{operation}_{place}", made[i], made[j], number)
            if result is not None and result.shape[-1] <= WIDEST:
                used |= {i, j} if operation in BINARY else {i}
                made.append(result)
        ends = [x for i, x in enumerate(made) if i not in used]
        return sum(self.linear(f"last_{i}", x, 3) for i, x in enumerate(ends))


def _divisor(width: int, number: int) -> int:
    """Some divisor of a width, not 1 unless it is a prime."""
    found = [n for n in range(2, width) if width % n == 0] or [1]
    return found[number % len(found)]


def _linear(model, name, x, _, number):
    return model.linear(name, x, 4 + number)


def _again(model, name, x, _, number):
    """An earlier layer of the right width once more."""
    fitting = [
        layer
        for layer in model.ran
        if isinstance(layer, nn.Linear) and layer.in_features == x.shape[-1]
    ]
    return torch.tanh(fitting[number % len(fitting)](x)) if fitting else None


def _transposed(model, name, x, _, number):
    """An earlier layer backwards."""
    fitting = [
        layer
        for layer in model.ran
        if isinstance(layer, nn.Linear) and layer.out_features == x.shape[-1]
    ]
    fitting = [layer for layer in fitting if layer.in_features != 5]
    return functional.linear(x, fitting[number % len(fitting)].weight.t()) if fitting else None


def _attention(model, name, x, y, number):
    heads, size = 2 + number % 2, 2 + number % 3
    q, k, v = (
        model.linear(f"{name}_{part}", source, heads * size)
        .unflatten(-1, (heads, size))
        .transpose(1, 2)
        for part, source in (("q", x), ("k", y), ("v", y))
    )
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _fused_attention(model, name, x, _, number):
    heads, size = 2 + number % 2, 2 + number % 3
    qkv = model.linear(name, x, 3 * heads * size).reshape(*x.shape[:2], 3, heads, size)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(*x.shape[:2], -1)


def _split(model, name, x, _, number):
    return x.split([number % x.shape[-1], x.shape[-1] - number % x.shape[-1]], dim=-1)[1]


def _group_softmax(model, name, x, _, number):
    groups = _divisor(x.shape[-1], number)
    return x.unflatten(-1, (groups, -1)).softmax(-1).flatten(-2)


def _group_sum(model, name, x, _, number):
    return x.unflatten(-1, (_divisor(x.shape[-1], number), -1)).sum(-1 - number % 2)


def _shuffle(model, name, x, _, number):
    groups = _divisor(x.shape[-1], number)
    return x.unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2)


def _group_linear(model, name, x, _, number):
    """The same small layer for each group, such as for each head."""
    groups = _divisor(x.shape[-1], number)
    return model.linear(name, x.unflatten(-1, (groups, -1)), 3 + number % 3).flatten(-2)


def _convolution(model, name, x, _, number):
    groups, width = _divisor(x.shape[-1], number), x.shape[-1]
    make = lambda: nn.Conv1d(width, 2 * groups, 3, padding=1, groups=groups)  # noqa: E731
    return model.layer(name, make)(x.transpose(1, 2)).transpose(1, 2)


def _gate(model, name, x, _, number):
    if x.shape[-1] % 2:
        return None
    a, b = x.chunk(2, dim=-1)
    return functional.silu(a) * b


def _same(operation):
    return lambda model, name, x, y, number: operation(x, y) if x.shape == y.shape else None


OPERATIONS = {
    "linear": _linear,
    "again": _again,
    "transposed": _transposed,
    "attention": _attention,
    "fused_attention": _fused_attention,
    "split": _split,
    "group_softmax": _group_softmax,
    "group_sum": _group_sum,
    "shuffle": _shuffle,
    "group_linear": _group_linear,
    "convolution": _convolution,
    "gate": _gate,
    "add": _same(torch.add),
    "multiply": _same(torch.mul),
    "outer": lambda model, name, x, y, number: (x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2),
    "cat": lambda model, name, x, y, number: torch.cat([x, y], dim=-1),
    "repeat": lambda model, name, x, y, number: x.repeat_interleave(2, dim=-1),
    "tile": lambda model, name, x, y, number: x.repeat(1, 1, 2),
    "strided": lambda model, name, x, y, number: x[..., number % 2 :: 2],
    "running_sum": lambda model, name, x, y, number: x.cumsum(-1),
    "flip": lambda model, name, x, y, number: x.flip(-1),
    "tanh": lambda model, name, x, y, number: torch.tanh(x),
    "softmax": lambda model, name, x, y, number: x.softmax(-1),
    "center": lambda model, name, x, y, number: x - x.mean(-1, keepdim=True),
    "norm": lambda model, name, x, y, number: model.layer(name, lambda: nn.LayerNorm(x.shape[-1]))(
        x
    ),
}
BINARY = ("attention", "add", "multiply", "outer", "cat")
