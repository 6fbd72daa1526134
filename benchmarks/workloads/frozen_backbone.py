"""A new head on a frozen convnet, CIFAR-10."""

from functools import cache, partial

import torch
from torch import nn

from benchmarks.workloads.classification import Classification
from benchmarks.workloads.trained import trained
from benchmarks.workloads.workload import Recipe, Workload, cosine
from meta_train.data.dataset import Dataset
from meta_train.data.images import images

WIDTH = 128
"""Features of the convnet."""
SIZE = 16
"""Of the images of CIFAR-10 in pixels: a quarter of the time of 32."""
FIRST_STEPS = 1500
"""Number of steps in which the convnet learns the first classes."""


def convnet() -> nn.Sequential:
    """Three convolutions with batch norm, then the mean over pixels: (n, 3, h, w) to (n, 128)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, WIDTH)):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def frozen(seed: int, head: str) -> Classification:
    """Train a head for classes 5 to 9 of CIFAR-10 on a convnet that has learned classes 0 to 4.

    Args:
        seed: of the convnet, the head and the order of images.
        head: `linear` or `two_layers`.
    """
    backbone = trained(FIRST_HALF, seed)[0].requires_grad_(False)
    torch.manual_seed(seed)
    layers = [nn.Dropout(0.2), nn.Linear(WIDTH, 5)]
    if head == "two_layers":
        layers = [nn.Linear(WIDTH, WIDTH), nn.ReLU(), *layers]
    model = nn.Sequential(backbone, *layers)
    backbone.eval()
    recipe = Recipe(torch.optim.Adam, lr=1e-3)
    return Classification(model, recipe, _half(second=True), seed, batch=64, tested=2000)


def first_half(seed: int) -> Classification:
    """Train the convnet, and a linear head, on classes 0 to 4 of CIFAR-10."""
    torch.manual_seed(seed)
    model = nn.Sequential(convnet(), nn.Linear(WIDTH, 5))
    recipe = Recipe(torch.optim.Adam, lr=3e-3, schedule=cosine(FIRST_STEPS))
    return Classification(model, recipe, _half(second=False), seed, batch=64)


@cache
def _half(*, second: bool) -> Dataset:
    splits = {}
    for split, (pixels, labels) in images("cifar10", SIZE).splits.items():
        chosen = (labels >= 5) == second
        splits[split] = pixels[chosen], labels[chosen] - 5 * second
    return Dataset("cifar10", splits, classes=5)


def _frozen(name: str, title: str, head: str) -> Workload:
    return Workload(
        name=name,
        title=f"{title} on a frozen convnet, CIFAR-10",
        build=partial(frozen, head=head),
        steps=1000,
        every=50,
        metric="test accuracy",
        higher=True,
        task="fine-tuning",
        source="after F. Chollet, Transfer learning & fine-tuning, https://keras.io/guides/"
        "transfer_learning: frozen features without batch statistics, dropout 0.2, "
        "Adam with its defaults",
    )


FIRST_HALF = Workload(
    name="cifar10_first_half",
    title="convnet, half of CIFAR-10",
    build=first_half,
    steps=FIRST_STEPS,
    every=FIRST_STEPS // 20,
    metric="test accuracy",
    higher=True,
    source="Adam and a cosine, for the heads to start from",
)
"""It is not on the command line."""

WORKLOADS = (
    _frozen("frozen_linear", "linear head", "linear"),
    _frozen("frozen_two_layers", "head of two layers", "two_layers"),
)
