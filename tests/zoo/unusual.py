"""Less common structure: pieces, ordered neurons, made weights, two towers, writing in place."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.zoo.entry import Model, entry


def _features() -> tuple[Tensor]:
    return (torch.randn(3, 5),)


class _Maxout(nn.Module):
    """Each neuron is the largest of its two pieces, which can be swapped in each neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = nn.Linear(5, 24)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pieces(x).view(-1, 12, 2).amax(dim=-1))


@entry("12", "2 in 12", pinned="last.bias")
def maxout() -> Model:
    return _Maxout(), _features(), {}


class _Interleaved(nn.Module):
    """Gates and values take turns along the axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 24)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x[..., ::2] * torch.sigmoid(x[..., 1::2]))


@entry("12", pinned="last.bias")
def glu_interleaved() -> Model:
    return _Interleaved(), _features(), {}


class _Ordered(nn.Module):
    """A running sum over neurons gives each a place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 12), nn.Linear(12, 13)
        self.last = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).cumsum(dim=-1)
        return self.last(torch.relu(self.second(x)))


@entry("13", pinned="first.weight first.bias last.bias")
def ordered_by_cumsum() -> Model:
    return _Ordered(), _features(), {}


class _Hypernetwork(nn.Module):
    """A layer makes the weights of another from a learned code."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(6))
        self.make = nn.Linear(6, 12 * 5)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.make(self.code).view(12, 5)
        return self.last(torch.relu(functional.linear(x, weight)))


@entry("12", "6", pinned="last.bias")
def hypernetwork() -> Model:
    return _Hypernetwork(), _features(), {}


class _Reversible(nn.Module):
    """Additive coupling: two unequal parts of the neurons update each other in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 13)
        self.f, self.g = nn.Linear(7, 6), nn.Linear(6, 7)
        self.last = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.embed(x).split([6, 7], dim=1)
        left = left + torch.tanh(self.f(right))
        right = right + torch.tanh(self.g(left))
        return self.last(torch.cat((left, right), dim=1))


@entry("6", "7", pinned="last.bias")
def reversible() -> Model:
    return _Reversible(), _features(), {}


class _VAE(nn.Module):
    """Noise ties the spread of a code to its mean; in eval mode the spread goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 14))
        self.decoder = nn.Sequential(nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 6))

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = self.encoder(x).chunk(2, dim=-1)
        if self.training:
            mean = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
        return self.decoder(mean)


@entry("12", "13", "7", pinned="decoder.2.bias")
def vae() -> Model:
    return _VAE(), (torch.randn(3, 6),), {}


class _TwoTowers(nn.Module):
    """As in CLIP: similarities of normalised embeddings, with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 7))
        self.right = nn.Sequential(nn.Linear(6, 13), nn.ReLU(), nn.Linear(13, 7))
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.left(x), functional.normalize(self.right(y), dim=-1)
        x = x / x.norm(dim=-1, keepdim=True)
        return self.scale.exp() * x @ y.t()


@entry("12", "13", "7", pinned="scale")
def two_towers() -> Model:
    return _TwoTowers(), (torch.randn(3, 5), torch.randn(4, 6)), {}


class _InPlace(nn.Module):
    """Writes hidden neurons into a tensor made before, and adds in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 12), nn.Linear(12, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        hidden = x.new_zeros(batch, time, 12)
        for t in range(time):
            hidden[:, t] = self.first(x[:, t])
        hidden += torch.tanh(self.second(hidden.clone()))
        return self.last(hidden.relu_())


@entry("12", pinned="last.bias")
def written_in_place() -> Model:
    return _InPlace(), (torch.randn(2, 3, 5),), {}


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 13), nn.ReLU())
        self.last = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.first, x, use_reentrant=False))


@entry("12", "13", pinned="last.bias")
def checkpointed() -> Model:
    return _Checkpointed(), _features(), {}


class _ConvNeXt(nn.Module):
    """A block in channels-last order with a learned scale of its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 2, stride=2)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.norm = nn.LayerNorm(10)
        self.up, self.down = nn.Linear(10, 13), nn.Linear(13, 10)
        self.gamma = nn.Parameter(1e-6 * torch.ones(10))
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(functional.gelu(self.up(y)))
        return self.last((x + y.permute(0, 3, 1, 2)).mean([-2, -1]))


@entry("10", "13", pinned="last.bias")
def convnext() -> Model:
    return _ConvNeXt(), (torch.randn(2, 3, 8, 8),), {}


@entry("10", "13", "6", pinned="6.bias")
def decoder_unflatten() -> Model:
    code = nn.Linear(5, 13), nn.ReLU(), nn.Linear(13, 40), nn.Unflatten(1, (10, 2, 2))
    image = nn.ConvTranspose2d(10, 6, 2, stride=2), nn.Upsample(scale_factor=2)
    return nn.Sequential(*code, *image, nn.Conv2d(6, 3, 3, padding=1)), _features(), {}


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return grad * gate * (1 + x * (1 - gate))


class _OwnGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(_Swish.apply(self.first(x)))


@entry("12", pinned="last.bias")
def own_gradient() -> Model:
    return _OwnGradient(), _features(), {}
