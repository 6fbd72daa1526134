"""What trainers are compared with: a net, its data, and a loop of torch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from ngopt import NeuralGraphOptimizer
from ngopt.rules import MatrixGNN

BATCH = 8
BATCHES = 16


class Points(Dataset):
    """Points in five dimensions of three classes, always the same."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(BATCH * BATCHES, 5, generator=generator)
        self.y = self.x[:, :3].argmax(1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def loader() -> DataLoader:
    """Batches in the order of the data."""
    return DataLoader(Points(), BATCH)


def net() -> nn.Module:
    """A small perceptron, always the same."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
    return model


def ours(model: nn.Module, **options: float) -> NeuralGraphOptimizer:
    """The optimizer, with a rule that makes steps of both kinds within one epoch."""
    return NeuralGraphOptimizer(model, rule=MatrixGNN(context_every=3, seed=1), **options)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of a batch."""
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def by_hand(
    epochs: int = 1,
    accumulate: int = 1,
    clip: float | None = None,
    schedule: Callable[[Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
) -> tuple[nn.Module, NeuralGraphOptimizer]:
    """Train with a loop of torch, and return the model and its optimizer.

    Args:
        epochs: how often all data is seen.
        accumulate: number of batches of each step.
        clip: largest norm of all gradients together.
        schedule: makes a scheduler that steps after each step.
    """
    model = net()
    optimizer = ours(model)
    scheduler = None if schedule is None else schedule(optimizer)
    for _ in range(epochs):
        for number, batch in enumerate(loader()):
            (loss_of(model, batch) / accumulate).backward()
            if (number + 1) % accumulate == 0:
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
                if scheduler is not None:
                    scheduler.step()
    return model, optimizer


def halving(optimizer: Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Half the learning rate after every five steps."""
    return torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    """Raise unless the weights are the same to the last bit."""
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0)
