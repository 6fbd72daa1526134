"""Perceptrons: norms, gates, branches, containers, parametrizations, embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.zoo.entry import Model, entry


def _features(batch: int = 3) -> tuple[Tensor]:
    return (torch.randn(batch, 5),)


@entry("12", "13", pinned="4.bias")
def mlp() -> Model:
    layers = nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 13), nn.Tanh(), nn.Linear(13, 4)
    return nn.Sequential(*layers), _features(), {}


@entry("12", "13", pinned="8.bias")
def mlp_batchnorm() -> Model:
    first = nn.Linear(5, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5)
    second = nn.Linear(12, 13), nn.BatchNorm1d(13), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*first, *second, nn.Linear(13, 4)), _features(), {}


@entry("12", "13", pinned="6.bias")
def mlp_layernorm() -> Model:
    first = nn.Linear(5, 12), nn.LayerNorm(12), nn.GELU()
    second = nn.Linear(12, 13), nn.LayerNorm(13), nn.GELU()
    return nn.Sequential(*first, *second, nn.Linear(13, 4)), _features(), {}


@entry("12", "13", pinned="6.bias")
def mlp_rmsnorm() -> Model:
    first = nn.Linear(5, 12), nn.RMSNorm(12), nn.SiLU()
    second = nn.Linear(12, 13), nn.RMSNorm(13), nn.SiLU()
    return nn.Sequential(*first, *second, nn.Linear(13, 4)), _features(), {}


@entry("12", "13", pinned="4.bias")
def mlp_prelu() -> Model:
    layers = nn.Linear(5, 12), nn.PReLU(12), nn.Linear(12, 13), nn.LeakyReLU(), nn.Linear(13, 4)
    return nn.Sequential(*layers), _features(), {}


class _HandNorm(nn.Module):
    """An RMS norm by hand, as Llama and many others write it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 12)
        self.scale = nn.Parameter(torch.ones(12))
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.last(functional.silu(x * self.scale))


@entry("12", pinned="last.bias")
def hand_norm() -> Model:
    return _HandNorm(), _features(), {}


@entry("12", pinned="2.bias")
def glu() -> Model:
    return nn.Sequential(nn.Linear(5, 24), nn.GLU(), nn.Linear(12, 4)), _features(), {}


class _SwiGLU(nn.Module):
    """A gated block with one fused projection, split by hand, in a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 10)
        self.gate_up = nn.Linear(10, 22)
        self.down = nn.Linear(11, 10)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.head(x + self.down(functional.silu(gate) * up))


@entry("10", "11", pinned="head.bias")
def swiglu_chunk() -> Model:
    return _SwiGLU(), _features(), {}


@entry("12", "13", pinned="4.bias")
def weight_norm() -> Model:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(5, 12)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(12, 13)),
        nn.ReLU(),
        nn.Linear(13, 4),
    )
    return model, _features(), {}


@entry("12", "13", pinned="4.bias")
def spectral_norm() -> Model:
    model = nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(5, 12)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(12, 13)),
        nn.ReLU(),
        nn.Linear(13, 4),
    )
    return model, _features(), {}


class _UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 12)
        self.shared = nn.Linear(12, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))


@entry("12", pinned="last.bias")
def used_twice() -> Model:
    return _UsedTwice(), _features(), {}


class _Branches(nn.Module):
    """Two branches that meet in a sum or in an elementwise product."""

    def __init__(self, product: bool) -> None:
        super().__init__()
        self.product = product
        self.left = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 12))
        self.right = nn.Linear(5, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        return self.last(left * right if self.product else functional.relu(left + right))


@entry("12", "7", pinned="last.bias")
def branches_added() -> Model:
    return _Branches(product=False), _features(), {}


@entry("12", "7", pinned="last.bias")
def branches_multiplied() -> Model:
    return _Branches(product=True), _features(), {}


@entry("12", "13", pinned="4.bias")
def frozen() -> Model:
    model, args, kwargs = mlp.make()
    model[0].requires_grad_(False)
    return model, args, kwargs


class _Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(5, 12), nn.ReLU())
        other = nn.Sequential(nn.Linear(12, 13), nn.ReLU())
        self.stages = nn.ModuleDict({"body": nn.ModuleList([block, other])})
        self.stages["head"] = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.stages["body"]:
            x = block(x)
        return self.stages["head"](x)


@entry("12", "13", pinned="stages.head.bias")
def containers() -> Model:
    return _Containers(), _features(), {}


@entry("12", "13", pinned="last.bias")
def siren() -> Model:
    return _Siren(), (torch.rand(6, 2) * 2 - 1,), {}


class _Siren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(2, 12), nn.Linear(12, 13)])
        self.last = nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.sin(30.0 * layer(x))
        return self.last(x)


class _Pooled(nn.Module):
    """Words to a class: an embedding, averaged over the words."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.hidden = nn.Linear(10, 7)
        self.last = nn.Linear(7, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x.mean(dim=1) if x.dim() == 3 else x
        return self.last(functional.relu(self.hidden(x)))


@entry("10", "7", pinned="last.bias")
def embedding() -> Model:
    return _Pooled(nn.Embedding(17, 10)), (torch.randint(17, (3, 6)),), {}


@entry("10", "7", pinned="last.bias")
def embedding_bag() -> Model:
    return _Pooled(nn.EmbeddingBag(17, 10, mode="mean")), (torch.randint(17, (3, 6)),), {}


@entry("12", "13", "7", pinned="last.bias")
def bilinear() -> Model:
    return _Bilinear(), _features(), {}


class _Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(5, 12)
        self.right = nn.Linear(5, 13)
        self.mix = nn.Bilinear(12, 13, 7)
        self.last = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(
            functional.relu(self.mix(functional.relu(self.left(x)), functional.relu(self.right(x))))
        )
