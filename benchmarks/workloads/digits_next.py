"""Fine-tuning: a perceptron that knows digits is trained further on them."""

import torch
from torch import nn

from benchmarks.workloads.classification import Classification
from benchmarks.workloads.trained import trained
from benchmarks.workloads.workload import Recipe, Workload
from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.tasks.model_parts import perceptron


def on_digits(seed: int, model: nn.Module, recipe: Recipe) -> Classification:
    """Train a model on digits; it is tested on all images that it does not learn from.

    Args:
        seed: of the order of images.
        model: from images (n, 1, 8, 8) to logits (n, 10).
        recipe: of the model.
    """
    splits = images("digits", 8).splits
    # Held-out and test images together, so that one of them counts less.
    unseen = tuple(map(torch.cat, zip(splits["held_out"], splits["test"], strict=True)))
    data = Dataset("digits", {"train": splits["train"], "test": unseen}, classes=10)
    return Classification(model, recipe, data, seed, batch=32)


def digits(seed: int) -> Classification:
    """Train a perceptron with two hidden layers on digits of 8 x 8 pixels."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), *perceptron([64, 128, 128, 10], "relu"))
    return on_digits(seed, model, Recipe(torch.optim.Adam, lr=1e-3))


def build(seed: int) -> Classification:
    """Train a perceptron further on the digits that it has learned."""
    return on_digits(seed + 1, trained(DIGITS, seed), Recipe(torch.optim.AdamW, lr=1e-3))


DIGITS = Workload(
    name="digits",
    title="perceptron, digits",
    build=digits,
    steps=1000,
    every=50,
    metric="test accuracy",
    higher=True,
    source="Adam with its defaults, to start from",
)
"""It is not on the command line."""

WORKLOAD = Workload(
    name="digits_next",
    title="perceptron trained further, digits",
    build=build,
    steps=300,
    every=15,
    metric="test accuracy",
    higher=True,
    task="fine-tuning",
    source="PyTorch's defaults: AdamW goes on where Adam with the same learning rate has been",
)
