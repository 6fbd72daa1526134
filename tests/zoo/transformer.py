"""torch's own attention and transformer layers, and small ViT and GPT models."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.entry import Entry, Model, entry

WIDTH, HEADS = 15, 3


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.last(x + self.attention(x, x, x)[0])


@entry("15", "3", "5 in 3", "5 in 3", pinned="last.bias")
def multihead_attention() -> Model:
    return _SelfAttention(), (torch.randn(2, 4, 6),), {}


class _CrossAttention(nn.Module):
    """Queries, keys and values of three widths, without a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, WIDTH), nn.Linear(5, 7), nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=7, vdim=8)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(other), self.value(other)
        mixed, _ = self.attention(query, key, value, need_weights=False)
        return self.last(mixed)


@entry("15", "15", "3", "5 in 3", "5 in 3", "7", "8", pinned="last.bias")
def multihead_attention_cross() -> Model:
    return _CrossAttention(), (torch.randn(4, 2, 6), torch.randn(5, 2, 5)), {}


class _Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(6, WIDTH)
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 7, batch_first=True, norm_first=norm_first
        )
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.embed(x)).mean(1))


def _encoder(norm_first: bool, train: bool) -> Model:
    return _Encoder(norm_first).train(train), (torch.randn(2, 4, 6),), {}


_LAYER = tuple(sorted(("15", "3", "5 in 3", "5 in 3", "7")))
encoder_layer_train = Entry(partial(_encoder, False, True), _LAYER, ("last.bias",))
encoder_layer_eval = Entry(partial(_encoder, False, False), _LAYER, ("last.bias",))
encoder_layer_norm_first_train = Entry(partial(_encoder, True, True), _LAYER, ("last.bias",))
encoder_layer_norm_first_eval = Entry(partial(_encoder, True, False), _LAYER, ("last.bias",))


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory = nn.Linear(6, WIDTH), nn.Linear(8, WIDTH)
        self.layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 7, batch_first=True)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        x = self.layer(self.embed(x), self.memory(memory), tgt_mask=mask, tgt_is_causal=True)
        return self.last(x)


@entry("15", "15", "3", "3", "5 in 3", "5 in 3", "5 in 3", "5 in 3", "7", pinned="last.bias")
def decoder_layer() -> Model:
    return _Decoder(), (torch.randn(2, 4, 6), torch.randn(2, 5, 8)), {}


class _Block(nn.Module):
    """A pre-norm block with fused projections, causal (GPT) or not (ViT)."""

    def __init__(self, width: int, heads: int, inner: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.project(mixed.transpose(1, 2).contiguous().view(batch, time, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class _ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, 10))
        self.positions = nn.Parameter(torch.randn(1, 5, 10))
        self.block = _Block(10, 2, 7, causal=False)
        self.norm = nn.LayerNorm(10)
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.last(self.norm(self.block(x))[:, 0])


@entry("10", "2", "5 in 2", "5 in 2", "7", pinned="last.bias")
def vit() -> Model:
    return _ViT(), (torch.randn(2, 3, 8, 8),), {}


class _GPT(nn.Module):
    """Two blocks; the embedding of the 17 words is also the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(17, WIDTH), nn.Embedding(8, WIDTH)
        self.blocks = nn.ModuleList(_Block(WIDTH, HEADS, n, causal=True) for n in (13, 11))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 17, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        time = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.positions(time)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@entry("11", "13", "15", "3", "3", "5 in 3", "5 in 3", "5 in 3", "5 in 3")
def gpt() -> Model:
    return _GPT(), (torch.randint(17, (2, 6)),), {}
