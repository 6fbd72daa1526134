"""Tracing is sound for whatever one does to an activation: what it calls hidden can be permuted."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ngopt.graph.trace import trace


def _divided(h: Tensor, d: int) -> Tensor:
    n = h.shape[d]
    parts = next(k for k in (2, 3, 5, n) if n % k == 0)
    return h.unflatten(d, (parts, -1)) if h.dim() < 5 else h


def _merged(h: Tensor, d: int) -> Tensor:
    return h.flatten(d - 1, d) if d else h


def _halves(h: Tensor, d: int) -> tuple[Tensor, Tensor]:
    half = h.shape[d] // 2
    return h.narrow(d, 0, half), h.narrow(d, h.shape[d] - half, half)


def _half_replaced(h: Tensor, d: int) -> Tensor:
    h = h.clone()
    first, second = _halves(h, d)
    first += second.clone()
    return h


def _filled(h: Tensor, d: int) -> Tensor:
    zeros = torch.zeros(h.shape, dtype=h.dtype)
    zeros.narrow(d, 0, 1).copy_(h.narrow(d, 0, 1))
    return zeros.add_(h.cos())


def _ladder(h: Tensor, d: int) -> Tensor:
    shape = [n if e == d else 1 for e, n in enumerate(h.shape)]
    return torch.linspace(0.5, 1.5, h.shape[d], dtype=h.dtype).view(shape)


def _similarity(h: Tensor, d: int) -> Tensor:
    rows = h.movedim(d, -1).flatten(1, -2) if h.dim() > 2 else h
    return torch.tanh(rows @ rows.mT) if rows.dim() == 3 else torch.tanh(rows.T @ rows)


def _attended(h: Tensor, d: int) -> Tensor:
    if h.dim() == 1:
        return h
    return functional.scaled_dot_product_attention(h, h.cos(), h.sin(), is_causal=d == 0)


OPERATIONS = {
    "divided": _divided,
    "merged": _merged,
    "swapped": lambda h, d: h.transpose(d, -1),
    "moved": lambda h, d: h.movedim(d, 0),
    "sum": lambda h, d: h.sum(d, keepdim=True),
    "mean": lambda h, d: h.mean(dim=d) if h.dim() > 2 else h,
    "deviation": lambda h, d: h - h.std(d, keepdim=True, unbiased=False),
    "norm": lambda h, d: torch.linalg.vector_norm(h, 3, d, True) + h,
    "softmax": lambda h, d: h.softmax(d),
    "normalize": lambda h, d: functional.normalize(h, 2.0, d),
    "layer_norm": lambda h, d: functional.layer_norm(h, h.shape[d:]),
    "ladder": lambda h, d: h * _ladder(h, d),
    "cumsum": lambda h, d: h.cumsum(d),
    "flip": lambda h, d: h.flip(d),
    "roll": lambda h, d: h.roll(1, d),
    "largest": lambda h, d: h.topk(max(h.shape[d] // 2, 1), d)[0],
    "maximum": lambda h, d: h.max(d, keepdim=True)[0],
    "sorted": lambda h, d: torch.sort(h, dim=d)[0],
    "gathered": lambda h, d: h.gather(d, h.argsort(d)),
    "picked": lambda h, d: h.index_select(d, torch.arange(h.shape[d]).flip(0)),
    "part": lambda h, d: h.narrow(d, h.shape[d] // 3, h.shape[d] - h.shape[d] // 3),
    "gated": lambda h, d: torch.mul(*_halves(h, d)) if h.shape[d] > 1 else h,
    "swapped_halves": lambda h, d: torch.cat([h.tensor_split(2, d)[1], h.tensor_split(2, d)[0]], d),
    "doubled": lambda h, d: torch.cat([h, h.cos()], d),
    "stacked": lambda h, d: torch.stack([h, h.cos()], d) if h.dim() < 5 else h,
    "half_replaced": lambda h, d: _half_replaced(h, d) if h.shape[d] > 1 else h,
    "filled": _filled,
    "similarity": _similarity,
    "attended": _attended,
    "outer": lambda h, d: torch.einsum("...i,...j->...ij", h, h.cos()) if h.dim() < 4 else h,
    "where": lambda h, d: torch.where(h > h.mean(d, keepdim=True), h, 0.0),
    "tanh": lambda h, d: torch.tanh(h),
}

LARGEST = 400
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 4)), min_size=1, max_size=5
)


class Steps(nn.Module):
    """A layer of 12 neurons, some operations along some dims, and a layer that reads out all."""

    def __init__(self, steps: list[tuple[str, int]], x: Tensor) -> None:
        super().__init__()
        self.steps = steps
        self.first = nn.Linear(x.shape[-1], 12, dtype=x.dtype)
        with torch.no_grad():
            self.last = nn.Linear(self.inner(x).numel(), 3, dtype=x.dtype)

    def inner(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        for name, dim in self.steps:
            made = OPERATIONS[name](h, dim % h.dim())
            h = made if 0 < made.numel() <= LARGEST else h
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x).flatten())


@settings(max_examples=120)
@given(STEPS)
def test_what_is_hidden_survives_verification(steps):
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    model = Steps(steps, x)
    graph = trace(model, x)
    assert graph.unknown == ()
    assert trace(model, x, verify=True).spaces == graph.spaces
