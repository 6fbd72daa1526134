"""Training one network of a zoo, with hyper-parameters drawn for it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.data.dataset import RawImages
from meta_train.zoo.architecture import Architecture
from meta_train.zoo.networks import ConvNet

OPTIMIZERS = ("adam", "sgd", "rmsprop")
FRACTIONS = (0.1, 0.25, 0.5, 1.0)
SNAPSHOTS = (0.25, 0.5, 1.0)
"""Shares of the steps after which a network is kept."""

SGD_LR, MOMENTUM = 5.0, 0.9
"""Of SGD: how much larger its learning rates are than the others', and its momentum."""

CHECK_EVERY = 50
"""Steps after which a run is stopped that has diverged."""

AT_ONCE = 1000
MEASURED_ON = 2000
"""Training images on which training accuracy is measured, at most."""


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a run.

    Args:
        optimizer: place in :data:`OPTIMIZERS`.
        lr: learning rate, constant.
        l2: factor of the sum of squared weights, biases apart, that is added to the loss.
        dropout: probability that an output of a convolution is dropped.
        init_std: standard deviation of the initial weights, cut at two of them, with biases of 0;
            0 for weights and biases as torch draws them.
        train_fraction: share of the training images.
        steps: in all.
    """

    optimizer: int
    lr: float
    l2: float
    dropout: float
    init_std: float
    train_fraction: float
    steps: int

    def plain(self) -> dict[str, float]:
        """Numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Snapshot:
    """A network at some step.

    Args:
        tensors: its parameters.
        columns: what is known of it.
    """

    tensors: dict[str, Tensor]
    columns: dict[str, float]


def draw_recipe(generator: torch.Generator, shortest: int, longest: int, family: str) -> Recipe:
    """Draw hyper-parameters.

    Args:
        generator: draws them.
        shortest: least number of steps.
        longest: largest number of steps.
        family: `small`: as in the small zoo. `varied`: Adam on weights as torch draws them.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def log_uniform(low: float, high: float) -> float:
        return math.exp(uniform(math.log(low), math.log(high)))

    def place(values: Sequence[Any]) -> int:
        return int(torch.randint(len(values), (), generator=generator))

    small = family == "small"
    optimizer = place(OPTIMIZERS) if small else 0
    # With Adam's learning rates, SGD would get nowhere.
    unit = SGD_LR if OPTIMIZERS[optimizer] == "sgd" else 1.0
    return Recipe(
        optimizer=optimizer,
        lr=unit * log_uniform(1e-3, 2e-2),
        l2=log_uniform(1e-8, 1e-3),
        dropout=uniform(0.0, 0.3),
        init_std=log_uniform(0.08, 0.4) if small else 0.0,
        train_fraction=FRACTIONS[place(FRACTIONS)],
        steps=round(log_uniform(shortest, longest)),
    )


def train(
    architecture: Architecture,
    recipe: Recipe,
    images: RawImages,
    batch: int,
    test_images: int,
    generator: torch.Generator,
) -> list[Snapshot] | None:
    """Train a network and keep it at :data:`SNAPSHOTS`.

    Args:
        architecture: of a :class:`ConvNet`.
        recipe: how to train it.
        images: to learn from, and to test on, as bytes.
        batch: images per step, drawn with replacement.
        test_images: number of test images, the first ones.
        generator: draws weights, images and what is dropped.

    Returns:
        The snapshots; None if the run diverged.
    """
    seen = torch.randperm(len(images.training), generator=generator)
    seen = seen[: max(1, round(len(seen) * recipe.train_fraction))].to(images.training.device)
    order = torch.randint(len(seen), (recipe.steps, batch), generator=generator).to(seen.device)
    keep = [max(1, round(recipe.steps * share)) for share in SNAPSHOTS]
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        network = begin(architecture, recipe).to(images.training.device)
        optimizer = make_optimizer(network, recipe)
        for step, chosen in enumerate(seen[order], 1):
            logits = network(scaled(images.training[chosen]))
            loss = cross_entropy(logits, images.training_labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if (step % CHECK_EVERY == 0 or step in keep) and not loss.isfinite():
                return None
            if step in keep:
                measured = measure(network, images, seen[:MEASURED_ON], test_images)
                measured |= {"step": step, "epoch": step * batch / len(seen)}
                tensors = {n: p.detach().clone().cpu() for n, p in network.named_parameters()}
                if not all(tensor.isfinite().all() for tensor in tensors.values()):
                    return None
                found.append(Snapshot(tensors, measured))
    return found


def begin(architecture: Architecture, recipe: Recipe) -> ConvNet:
    """Make a network with fresh weights, from the global random state, in training mode."""
    network = ConvNet(**architecture.config)
    network.dropout = recipe.dropout
    if recipe.init_std:
        for parameter in network.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                std = recipe.init_std
                nn.init.trunc_normal_(parameter, 0.0, std, -2 * std, 2 * std)
    return network


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Optimizer of a recipe, with L2 on weights but not on biases."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    biases = [p for p in network.parameters() if p.dim() == 1]
    # The gradient of l2 * w² is 2 * l2 * w.
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": 2 * recipe.l2},
        {"params": biases},
    ]
    name = OPTIMIZERS[recipe.optimizer]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=MOMENTUM, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=recipe.lr)
    return torch.optim.Adam(groups, lr=recipe.lr, fused=True)


def scaled(images: Tensor) -> Tensor:
    """Images as bytes to images from -1 to 1."""
    return images.float() / 127.5 - 1


def measure(
    network: ConvNet, images: RawImages, seen: Tensor, test_images: int
) -> dict[str, float]:
    """Accuracies and the test loss of a network, which stays in its mode.

    Args:
        network: to measure.
        images: to measure it on.
        seen: numbers of training images.
        test_images: number of test images, the first ones.
    """
    mode = network.training
    network.eval()
    trained, _ = figures(network, images.training[seen], images.training_labels[seen])
    tested, loss = figures(network, images.test[:test_images], images.test_labels[:test_images])
    network.train(mode)
    gap = trained - tested
    return {"accuracy": tested, "train_accuracy": trained, "gap": gap, "loss": loss}


def figures(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and mean loss on images (n, channels, size, size), given as bytes."""
    right, loss = 0.0, 0.0
    with torch.no_grad():
        for part, known in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True):  # type: ignore[no-untyped-call]
            logits = network(scaled(part))
            right += float((logits.argmax(-1) == known).sum())
            loss += float(cross_entropy(logits, known, reduction="sum"))
    return right / len(images), loss / len(images)
