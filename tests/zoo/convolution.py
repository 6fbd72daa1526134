"""Convnets: pooling, residuals, groups, norms, concatenation, one to three dimensions."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.zoo.entry import Model, entry


def _image(size: int = 8) -> tuple[Tensor]:
    return (torch.randn(2, 3, size, size),)


def _classifier(*layers: nn.Module, width: int) -> nn.Sequential:
    """Layers, global average pooling and a linear head for four classes."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


@entry("10", "13", "6", pinned="8.bias")
def conv_flatten() -> Model:
    convolutions = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 10, 2), nn.ReLU()
    head = nn.Flatten(), nn.Linear(40, 13), nn.ReLU(), nn.Linear(13, 4)
    return nn.Sequential(*convolutions, *head), _image(), {}


@entry("10", "6", pinned="6.bias")
def conv_pool() -> Model:
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 10, 3), nn.ReLU()
    return _classifier(*layers, width=10), _image(), {}


class _Block(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, channels: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if channels != out:
            down = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(down, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


@entry("10", "11", "13", "6", "7", pinned="7.bias")
def resnet() -> Model:
    stem = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
    blocks = _Block(6, 7, 6, 1), _Block(6, 11, 10, 2), _Block(10, 13, 10, 1)
    return _classifier(*stem, *blocks, width=10), _image(), {}


@entry("10", "6", pinned="6.bias")
def depthwise_separable() -> Model:
    depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), depthwise, nn.Conv2d(6, 10, 1)
    return _classifier(*layers, width=10), _image(), {}


@entry("2 in 6", "6", pinned="5.bias")
def depthwise_multiplier() -> Model:
    layers = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 12, 3, groups=6), nn.ReLU()
    return _classifier(*layers, width=12), _image(), {}


@entry("10", "3", "4 in 3", "5 in 3", pinned="7.bias")
def grouped() -> Model:
    layers = nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 15, 3, groups=3), nn.ReLU()
    return _classifier(*layers, nn.Conv2d(15, 10, 1), width=10), _image(), {}


@entry("10", "6", pinned="last.bias")
def conv1d() -> Model:
    convolutions = nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Conv1d(6, 10, 3), nn.ReLU()
    return _MeanOverPositions(*convolutions), (torch.randn(2, 3, 9),), {}


@entry("10", "6", pinned="last.bias")
def conv3d() -> Model:
    convolutions = nn.Conv3d(3, 6, 2), nn.MaxPool3d(2), nn.ReLU(), nn.Conv3d(6, 10, 2), nn.ReLU()
    return _MeanOverPositions(*convolutions), (torch.randn(2, 3, 5, 5, 5),), {}


class _MeanOverPositions(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.last(x.mean(tuple(range(2, x.dim()))))


@entry("10", "6", "7", pinned="6.bias")
def conv_transpose() -> Model:
    encoder = nn.Conv2d(3, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 10, 2, stride=2), nn.ReLU()
    decoder = nn.ConvTranspose2d(10, 7, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(7, 3, 2, 2)
    return nn.Sequential(*encoder, *decoder), _image(), {}


@entry("2", "3", "4 in 3", "5 in 2", pinned="8.bias")
def group_norm() -> Model:
    first = nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12), nn.ReLU()
    second = nn.Conv2d(12, 10, 3), nn.GroupNorm(2, 10), nn.ReLU()
    return _classifier(*first, *second, width=10), _image(), {}


@entry("10", "6", pinned="8.bias")
def instance_norm() -> Model:
    first = nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU()
    second = nn.Conv2d(6, 10, 3), nn.InstanceNorm2d(10, affine=True), nn.ReLU()
    return _classifier(*first, *second, width=10), _image(), {}


@entry("10", "6", pinned="5.bias")
def conv_spectral_norm() -> Model:
    second = parametrizations.spectral_norm(nn.Conv2d(6, 10, 3))
    return _classifier(nn.Conv2d(3, 6, 3), nn.ReLU(), second, width=10), _image(), {}


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, padding=1)
        self.bottom = nn.Conv2d(6, 10, 3, padding=1)
        self.up = nn.ConvTranspose2d(10, 7, 2, stride=2)
        self.mix = nn.Conv2d(13, 11, 3, padding=1)
        self.last = nn.Conv2d(11, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.relu(self.down(x))
        x = functional.relu(self.bottom(functional.max_pool2d(skip, 2)))
        x = torch.cat([functional.relu(self.up(x)), skip], dim=1)
        return self.last(functional.relu(self.mix(x)))


@entry("10", "11", "6", "7", pinned="last.bias")
def unet() -> Model:
    return _UNet(), _image(), {}


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


@entry("5", "6", "7", pinned="6.bias")
def densenet() -> Model:
    layers = nn.Conv2d(3, 6, 3), _DenseLayer(6, 5), _DenseLayer(11, 7), nn.BatchNorm2d(18)
    return _classifier(*layers, width=18), _image(), {}


@entry("7", "10", pinned="5.bias")
def pixel_shuffle() -> Model:
    layers = nn.Conv2d(3, 28, 3), nn.PixelShuffle(2), nn.Conv2d(7, 10, 3)
    return _classifier(*layers, width=10), _image(), {}


class _SqueezeExcite(nn.Module):
    """Channels scaled by a small network that sees their averages, and a learned layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)
        self.squeeze = nn.Conv2d(10, 6, 1)
        self.excite = nn.Conv2d(6, 10, 1)
        self.scale = nn.Parameter(torch.ones(10, 1, 1))
        self.last = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x))
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = x + self.scale * x * torch.sigmoid(gate)
        return self.last(x.flatten(2).mean(-1))


@entry("10", "6", pinned="last.bias")
def squeeze_excite() -> Model:
    return _SqueezeExcite(), _image(), {}
