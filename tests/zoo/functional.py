"""Models whose weights are raw parameters: products, tied weights, low rank, experts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.entry import Model, entry


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)


class _RawParameters(nn.Module):
    """Weights of three layouts, used in three ways."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = _weight(5, 12), _weight(12)
        self.w2 = _weight(12, 13)
        self.w3 = _weight(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.w1 + self.b1)
        x = torch.relu(torch.einsum("bi,io->bo", x, self.w2))
        return functional.linear(x, self.w3.t())


@entry("12", "13")
def raw_parameters() -> Model:
    return _RawParameters(), (torch.randn(3, 5),), {}


class _TiedAutoencoder(nn.Module):
    """The decoder uses the encoder's weights transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = nn.Linear(6, 12)
        self.inner = nn.Linear(12, 7)
        self.bias = _weight(12)

    def forward(self, x: Tensor) -> Tensor:
        code = torch.relu(self.inner(torch.relu(self.outer(x))))
        x = torch.relu(functional.linear(code, self.inner.weight.t(), self.bias))
        return functional.linear(x, self.outer.weight.t())


@entry("12", "7")
def tied_autoencoder() -> Model:
    return _TiedAutoencoder(), (torch.randn(3, 6),), {}


class _LowRank(nn.Module):
    """A frozen layer plus a low-rank product, merged before use (LoRA) or applied in turn."""

    def __init__(self, merged: bool) -> None:
        super().__init__()
        self.merged = merged
        self.base = nn.Linear(5, 12).requires_grad_(False)
        self.a, self.b = _weight(3, 5), _weight(12, 3)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            x = functional.linear(x, self.base.weight + 0.5 * (self.b @ self.a), self.base.bias)
        else:
            x = self.base(x) + 0.5 * (x @ self.a.T @ self.b.T)
        return self.last(torch.relu(x))


@entry("12", "3", pinned="last.bias")
def lora_merged() -> Model:
    return _LowRank(merged=True), (torch.randn(3, 5),), {}


@entry("12", "3", pinned="last.bias")
def lora_applied() -> Model:
    return _LowRank(merged=False), (torch.randn(3, 5),), {}


class _ListedExperts(nn.Module):
    """Experts as modules: each has neurons of its own, and its place in the list is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 10)
        self.gate = nn.Linear(10, 3)
        expert = [nn.Sequential(nn.Linear(10, n), nn.ReLU(), nn.Linear(n, 11)) for n in (6, 7, 8)]
        self.experts = nn.ModuleList(expert)
        self.last = nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.embed(x))
        gate = self.gate(x).softmax(dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.last((gate.unsqueeze(-1) * outputs).sum(dim=1))


@entry("10", "6", "7", "8", "11", pinned="gate.bias last.bias")
def experts_listed() -> Model:
    return _ListedExperts(), (torch.randn(4, 5),), {}


class _StackedExperts(nn.Module):
    """Experts as slices of one tensor: they are neurons too, and each has neurons inside."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 10)
        self.gate = nn.Linear(10, 3)
        self.w1, self.b1, self.w2 = _weight(3, 10, 7), _weight(3, 7), _weight(3, 7, 11)
        self.last = nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.embed(x))
        gate = self.gate(x).softmax(dim=-1)
        inner = torch.relu(torch.einsum("bi,eih->beh", x, self.w1) + self.b1)
        return self.last(torch.einsum("be,beh,eho->bo", gate, inner, self.w2))


@entry("10", "3", "7 in 3", "11", pinned="last.bias")
def experts_stacked() -> Model:
    return _StackedExperts(), (torch.randn(4, 5),), {}


class _Mixer(nn.Module):
    """One block of an MLP-mixer: over the tokens, then over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 10)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(10) for _ in range(3))
        self.tokens = nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6))
        self.channels = nn.Sequential(nn.Linear(10, 13), nn.GELU(), nn.Linear(13, 10))
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.last(self.norm3(x).mean(dim=1))


@entry("10", "13", "7", pinned="last.bias tokens.2.bias")
def mixer() -> Model:
    return _Mixer(), (torch.randn(2, 6, 5),), {}
