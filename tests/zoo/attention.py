"""Attention in the many ways people write it.

Queries and keys share one space inside each head, values and outputs another; heads move as blocks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.entry import Model, entry

MODEL, HEADS, QK, VO = 10, 3, 5, 4


def _tokens(width: int = 6) -> tuple[Tensor]:
    return (torch.randn(2, 4, width),)


class _Attention(nn.Module):
    """A residual attention layer between an embedding and a head, subclasses say which."""

    def __init__(self, projections: dict[str, int], mixed: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, MODEL)
        for name, size in projections.items():
            self.add_module(name, nn.Linear(MODEL, size))
        self.out = nn.Linear(mixed, MODEL)
        self.last = nn.Linear(MODEL, 4)

    def mix(self, x: Tensor) -> Tensor:
        """Mix tokens: `(batch, time, MODEL)` to `(batch, time, mixed)`."""
        raise AssertionError("subclasses define it")

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.last(x + self.out(self.mix(x)))


class _Separate(_Attention):
    """Three projections, heads split off by `view`."""

    def __init__(self) -> None:
        super().__init__({"q": HEADS * QK, "k": HEADS * QK, "v": HEADS * VO}, HEADS * VO)

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        return self.attend(q, k, v).transpose(1, 2).reshape(*x.shape[:2], HEADS * VO)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class _Matmul(_Separate):
    """With a causal mask kept in a buffer, as in the first GPTs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tril(torch.ones(1, 1, 8, 8)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        time = q.shape[2]
        scores = (q @ k.transpose(-2, -1)) * QK**-0.5
        scores = scores.masked_fill(self.mask[:, :, :time, :time] == 0, float("-inf"))
        return functional.dropout(functional.softmax(scores, dim=-1), 0.1, self.training) @ v


class _Einsum(_Separate):
    def mix(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], HEADS, -1)
        q, k, v = self.q(x).view(shape), self.k(x).view(shape), self.v(x).view(shape)
        weights = torch.softmax(torch.einsum("bthd,bshd->bhts", q, k) / QK**0.5, dim=-1)
        return torch.einsum("bhts,bshd->bthd", weights, v).flatten(2)


class _Fused(_Attention):
    """One projection for queries, keys and values, chunked."""

    def __init__(self) -> None:
        super().__init__({"qkv": 3 * HEADS * QK}, HEADS * QK)

    def mix(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            part.view(batch, time, HEADS, QK).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).contiguous().view(batch, time, HEADS * QK)


class _Unbound(_Attention):
    """One projection, reshaped and unbound as timm does it, with two heads."""

    def __init__(self) -> None:
        super().__init__({"qkv": 3 * 2 * QK}, 2 * QK)

    def mix(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, time, 3, 2, QK).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * QK**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).reshape(batch, time, 2 * QK)


class _HeadParameters(nn.Module):
    """Weights with an axis for the heads, as in JAX code."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, MODEL)
        self.q = nn.Parameter(torch.randn(MODEL, HEADS, QK) / 3)
        self.k = nn.Parameter(torch.randn(MODEL, HEADS, QK) / 3)
        self.v = nn.Parameter(torch.randn(MODEL, HEADS, VO) / 3)
        self.o = nn.Parameter(torch.randn(HEADS, VO, MODEL) / 3)
        self.last = nn.Linear(MODEL, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (torch.einsum("btm,mhd->bhtd", x, w) for w in (self.q, self.k, self.v))
        weights = torch.einsum("bhtd,bhsd->bhts", q, k).softmax(-1)
        return self.last(x + torch.einsum("bhts,bhsd,hdm->btm", weights, v, self.o))


class _Grouped(_Attention):
    """Grouped-query attention: `groups` heads of keys, each shared by three heads of queries."""

    def __init__(self, groups: int, repeat: str) -> None:
        sizes = {"q": groups * 3 * QK, "k": groups * QK, "v": groups * VO}
        super().__init__(sizes, groups * 3 * VO)
        self.groups, self.repeat = groups, repeat

    def mix(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q = self.q(x).view(batch, time, 3 * self.groups, QK).transpose(1, 2)
        k = self.k(x).view(batch, time, self.groups, QK).transpose(1, 2)
        v = self.v(x).view(batch, time, self.groups, VO).transpose(1, 2)
        if self.repeat == "native":
            mixed = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        else:
            mixed = functional.scaled_dot_product_attention(q, self.repeated(k), self.repeated(v))
        return mixed.transpose(1, 2).reshape(batch, time, 3 * self.groups * VO)

    def repeated(self, x: Tensor) -> Tensor:
        if self.repeat == "interleave":
            return x.repeat_interleave(3, dim=1)
        batch, groups, time, width = x.shape
        x = x[:, :, None].expand(batch, groups, 3, time, width)
        return x.reshape(batch, groups * 3, time, width)


@entry("10", "3", "4 in 3", "5 in 3", pinned="last.bias")
def attention_sdpa() -> Model:
    return _Separate(), _tokens(), {}


@entry("10", "3", "4 in 3", "5 in 3", pinned="last.bias")
def attention_matmul() -> Model:
    return _Matmul(), _tokens(), {}


@entry("10", "3", "4 in 3", "5 in 3", pinned="last.bias")
def attention_einsum() -> Model:
    return _Einsum(), _tokens(), {}


@entry("10", "3", "5 in 3", "5 in 3", pinned="last.bias")
def attention_fused() -> Model:
    return _Fused(), _tokens(), {}


@entry("10", "2", "5 in 2", "5 in 2", pinned="last.bias")
def attention_unbind() -> Model:
    return _Unbound(), _tokens(), {}


@entry("10", "3", "4 in 3", "5 in 3", pinned="last.bias")
def attention_head_parameters() -> Model:
    return _HeadParameters(), _tokens(), {}


@entry("10", "2", "3 in 2", "4 in 2", "5 in 2", pinned="last.bias")
def gqa_interleave() -> Model:
    return _Grouped(2, "interleave"), _tokens(), {}


@entry("10", "2", "3 in 2", "4 in 2", "5 in 2", pinned="last.bias")
def gqa_expand() -> Model:
    return _Grouped(2, "expand"), _tokens(), {}


@entry("10", "2", "3 in 2", "4 in 2", "5 in 2", pinned="last.bias")
def gqa_native() -> Model:
    return _Grouped(2, "native"), _tokens(), {}


@entry("10", "3", "4", "5", pinned="last.bias")
def multi_query() -> Model:
    return _Grouped(1, "expand"), _tokens(), {}
