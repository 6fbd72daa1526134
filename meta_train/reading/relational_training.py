"""Training of a network that is wired as a graph, by the published recipe."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from meta_train import checkpoint
from meta_train.data.dataset import Dataset
from meta_train.errors import MetaTrainError
from meta_train.seeds import part_seed

MOMENTUM = 0.9
EVALUATED_AT_ONCE = 1000


@dataclass(frozen=True)
class Recipe:
    """How networks are trained: SGD with Nesterov momentum, its rate along half a cosine to 0.

    Args:
        epochs: how often all images are seen.
        batch: images per step; what is left of an epoch is not used.
        lr: learning rate at the first step.
        weight_decay: of all weights.
        flip: whether images are mirrored at random.
        shift: by how many pixels images are moved at most, at random, along each side.
    """

    epochs: int = 200
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    flip: bool = True
    shift: int = 4

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or self.lr <= 0 or self.shift < 0:
            raise MetaTrainError(
                f"{self} trains nothing.\n  Use at least 1 epoch and 1 image per batch, lr > 0, "
                "and a shift of at least 0 pixels."
            )


@dataclass(frozen=True)
class Outcome:
    """What became of a network. Errors are shares of wrong answers, in percent, after the end.

    Args:
        test_error: on test images.
        held_out_error: on images that were held out of training.
        losses: mean training loss of each epoch.
        seconds: of the processor, if there is one thread; of the clock else.
    """

    test_error: float
    held_out_error: float
    losses: tuple[float, ...]
    seconds: float


def train(
    network: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    folder: Path | None = None,
    after: Callable[[int, nn.Module], None] | None = None,
) -> Outcome:
    """Train a network in place.

    Args:
        network: on the device of the data.
        data: images and labels.
        recipe: how.
        seed: of the order of images and of their changes.
        folder: of checkpoints, one per epoch, from which a training that was cut short goes on.
        after: is called after each epoch with its number, from 1.

    Raises:
        MetaTrainError: if there are fewer images than a batch has.
    """
    images, _ = data.splits["train"]
    steps = len(images) // recipe.batch
    if not steps:
        raise MetaTrainError(
            f"{len(images)} images do not fill a batch of {recipe.batch}.\n"
            "  Use more images or a smaller batch."
        )
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.lr,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    run = _Run(network, optimizer, [], 0.0)
    if folder is not None:
        run.resume(folder)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for epoch in range(len(run.losses), recipe.epochs):
        started, total = clock(), torch.zeros((), device=images.device)
        network.train()
        for step, batch in enumerate(_batches(data, recipe, seed, epoch), epoch * steps):
            share = step / (recipe.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * (1 + math.cos(math.pi * share)) / 2
            total += _step(network, optimizer, *batch)
        run.losses.append(total.item() / steps)
        run.seconds += clock() - started
        if after is not None:
            after(epoch + 1, network)
        if folder is not None and epoch + 1 < recipe.epochs:
            checkpoint.save(folder, epoch + 1, run.state(), keep=1)
    return Outcome(
        error(network, *data.splits["test"]),
        error(network, *data.splits["held_out"]),
        tuple(run.losses),
        run.seconds,
    )


@torch.no_grad()
def error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that a network gets wrong, in percent; it is left in evaluation mode."""
    network.eval()
    wrong = 0
    for start in range(0, len(images), EVALUATED_AT_ONCE):
        part = slice(start, start + EVALUATED_AT_ONCE)
        wrong += int((network(images[part]).argmax(1) != labels[part]).sum())
    return 100 * wrong / len(images)


@dataclass
class _Run:
    """A training as far as it is."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float]
    seconds: float

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def resume(self, folder: Path) -> None:
        found = checkpoint.latest(folder)
        if found is None:
            return
        _, state = found
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses, self.seconds = list(state["losses"]), state["seconds"]


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> Tensor:
    loss = cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _batches(
    data: Dataset, recipe: Recipe, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of an epoch, which follow from the seed and the number of the epoch."""
    images, labels = data.splits["train"]
    generator = torch.Generator().manual_seed(part_seed(seed, epoch))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        at = order[start : start + recipe.batch]
        yield changed(images[at], recipe, generator), labels[at]


def changed(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Mirror and move images (n, channels, height, width); what is moved in is the mean, 0."""
    count, channels, height, width = images.shape
    device, shift = images.device, recipe.shift
    if recipe.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = torch.where(mirrored.to(device)[:, None, None, None], images.flip(3), images)
    if not shift:
        return images
    down, right = torch.randint(2 * shift + 1, (2, count, 1), generator=generator).to(device)
    rows = torch.arange(height, device=device) + down
    columns = torch.arange(width, device=device) + right
    number = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return pad(images, [shift] * 4)[
        number, channel, rows[:, None, :, None], columns[:, None, None, :]
    ]
