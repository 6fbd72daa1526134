"""Models whose training is timed, from small to large."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Objective = Callable[[nn.Module, Any], Tensor]
"""The loss of a model on a batch."""


def perceptron() -> nn.Module:
    """A perceptron 784-128-10."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def convnet(channels: int, width: int) -> nn.Module:
    """A convnet of the paper: three convolutions, the mean over positions, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 10),
    )


class Transformer(nn.Module):
    """A language model of 3.2 million weights: four layers of 256, words attend to all words."""

    def __init__(self, vocabulary: int = 128, width: int = 256, layers: int = 4) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.embedding = nn.Embedding(vocabulary, width)
        self.body = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(batch * words, vocabulary)`."""
        return self.head(self.body(self.embedding(words))).flatten(0, 1)


class Stack(nn.Module):
    """A residual perceptron of width 512, with 263 thousand weights in each layer."""

    def __init__(self, layers: int, width: int = 512) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(batch, width)`."""
        for layer in self.layers:
            x = x + layer(x).relu() / len(self.layers)
        return x


class Scales(nn.Module):
    """Many tensors of three weights, by which a vector is multiplied one after the other."""

    def __init__(self, count: int = 300) -> None:
        super().__init__()
        self.scales = nn.ParameterList(torch.ones(3) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(batch, 3)`."""
        for scale in self.scales:
            x = x * scale
        return x


class ResNet(nn.Module):
    """ResNet-18 of transformers, which returns logits alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
            layer_type="basic",
            num_labels=1000,
        )
        self.net = ResNetForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(batch, 1000)`."""
        return self.net(x).logits


class ViT(nn.Module):
    """ViT-B/16 of transformers, which returns logits alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        self.net = ViTForImageClassification(ViTConfig(num_labels=1000))

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(batch, 1000)`."""
        return self.net(x).logits


class ResNet50(nn.Module):
    """ResNet-50 of transformers, which returns the logits alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification

        self.net = ResNetForImageClassification(ResNetConfig(num_labels=1000))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits `(batch, 1000)`."""
        return self.net(pictures).logits


class GPT2(nn.Module):
    """GPT-2 small of transformers, which returns the logits of the next word alone."""

    def __init__(self, layers: int = 12) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.net = GPT2LMHeadModel(GPT2Config(use_cache=False, n_layer=layers))

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(batch * words, 50257)`."""
        return self.net(words).logits.flatten(0, 1)


def images(*shape: int) -> Callable[[], Tensor]:
    """What draws random images."""
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(0))


def words(vocabulary: int, *shape: int) -> Callable[[], Tensor]:
    """What draws random words."""
    return lambda: torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))


def loss(logits: Tensor) -> Tensor:
    """Cross-entropy with the numbers of the examples as labels."""
    classes = torch.arange(len(logits), device=logits.device) % logits.shape[1]
    return cross_entropy(logits, classes)


def loss_on(model: nn.Module, batch: Tensor) -> Tensor:
    """Cross-entropy of a model on a batch, with the labels of :func:`loss`."""
    return loss(model(batch))
