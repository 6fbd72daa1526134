"""A small ResNet on CIFAR-10 with AdamW and one cycle."""

import torch
from torch import Tensor, nn

from benchmarks.workloads.classification import Classification, cifar10
from benchmarks.workloads.workload import Recipe, Workload

EPOCHS, BATCH, WIDTH = 6, 128, 8
STEPS = EPOCHS * (45_000 // BATCH)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """Two convolutions beside an identity, or beside a 1 x 1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = convolution(outputs, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, height, width) to (n, outputs, height / stride, width / stride)."""
        return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()


def resnet(width: int) -> nn.Sequential:
    """ResNet-8 of He et al. for images of 32 x 32: one block at each of three resolutions."""
    return nn.Sequential(
        convolution(3, width),
        nn.ReLU(),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def one_cycle(step: int) -> float:
    """Up from a tenth, back to it, and down to a thousandth in the last 7.5 % of the steps."""
    half, tail = 0.4625 * STEPS, 0.075 * STEPS
    if step < 2 * half:
        return 1 - 0.9 * abs(1 - step / half)
    return max(0.001, 0.1 - 0.099 * (step - 2 * half) / tail)


def build(seed: int) -> Classification:
    """A run from a seed."""
    torch.manual_seed(seed)
    recipe = Recipe(
        torch.optim.AdamW,
        lr=3e-3,
        options={"betas": (0.9, 0.99)},
        decayed=0.1,
        schedule=one_cycle,
    )
    return cifar10(resnet(WIDTH), recipe, seed, BATCH)


WORKLOAD = Workload(
    name="cifar_resnet",
    title="ResNet-8, CIFAR-10",
    build=build,
    steps=STEPS,
    every=STEPS // 18,
    metric="test accuracy",
    higher=True,
    source="after S. Gugger and J. Howard, AdamW and super-convergence (2018), "
    "https://github.com/sgugger/Adam-experiments, with ResNet-8, 6 epochs, "
    "and a constant beta_1",
)
