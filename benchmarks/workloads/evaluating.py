"""Looking at a model without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

CHUNK = 500
"""Largest number of rows in a forward pass."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, without gradients; afterwards each module is as before.

    `model.train()` would not do afterwards: modules that a recipe keeps in evaluation mode, such as
    those of a frozen backbone, would leave it.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs (n, ...) of a model in evaluation mode for inputs (n, ...), some rows at a time."""
    with evaluating(model):
        return torch.cat([model(rows) for rows in inputs.split(CHUNK)])


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of rows whose greatest output is that of their label.

    Args:
        model: from inputs (rows, ...) to logits (rows, classes).
        inputs: (n, ...).
        labels: (n,) int64.
    """
    return (outputs(model, inputs).argmax(1) == labels).double().mean().item()
