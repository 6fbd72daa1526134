"""A convnet with batch norm on FashionMNIST."""

import torch
from torch import nn

from benchmarks.workloads.classification import Classification
from benchmarks.workloads.workload import Recipe, Workload, cosine
from meta_train.data.images import images

BATCH, STEPS = 128, 1280
"""Three epochs, but for seven steps."""


def convnet(width: int) -> nn.Sequential:
    """Two convolutions with batch norm and pooling, for images (n, 1, 28, 28).

    Args:
        width: number of channels of the first; the second has twice as many.
    """
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * 7 * 7, 10),
    )


def build(seed: int) -> Classification:
    """A run from a seed."""
    torch.manual_seed(seed)
    recipe = Recipe(torch.optim.AdamW, lr=1e-3, decayed=0.01, schedule=cosine(STEPS))
    data = images("fashion_mnist", 28)
    return Classification(convnet(16), recipe, data, seed, batch=BATCH, tested=2500)


WORKLOAD = Workload(
    name="fashion_convnet",
    title="convnet with batch norm, FashionMNIST",
    build=build,
    steps=STEPS,
    every=64,
    metric="test accuracy",
    higher=True,
    source="after `2 Conv+pooling+BN` in the README of "
    "https://github.com/zalandoresearch/fashion-mnist, with AdamW as torch sets it and a cosine",
)
