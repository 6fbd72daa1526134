"""The optimizers that keep torch's contract, in one table: a new one is one line in it.

Torch's own are in it so that the tests are known to ask for nothing that torch does not do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.rules.adam import Adam


@dataclass(frozen=True)
class Case:
    """An optimizer and the form in which it is given the parameters.

    Args:
        name: shown by pytest.
        make: the optimizer.
        form: "parameters", "named" or "model".
    """

    name: str
    make: Callable[..., Optimizer]
    form: str = "parameters"

    def given(self, model: nn.Module) -> Any:
        """First argument of the optimizer, to optimize the whole model."""
        if self.form == "model":
            return model
        return model.named_parameters() if self.form == "named" else model.parameters()

    def build(self, model: nn.Module, **options: Any) -> Optimizer:
        return self.make(self.given(model), **{"lr": 1e-2, **options})

    def group(self, model: nn.Module, **options: Any) -> dict[str, Any]:
        """A parameter group of the whole model."""
        return {"model" if self.form == "model" else "params": self.given(model), **options}

    def of_groups(self, groups: list[dict[str, Any]], **options: Any) -> Optimizer:
        return self.make(groups, **{"lr": 1e-2, **options})


CASES = [
    Case("Adam", torch.optim.Adam),
    Case("AdamW", partial(torch.optim.AdamW, weight_decay=0.0)),
    Case("SGD", partial(torch.optim.SGD, momentum=0.9)),
    Case("ours-Adam", partial(NeuralGraphOptimizer, rule=Adam())),
    Case("ours", NeuralGraphOptimizer),
    Case("ours-named", NeuralGraphOptimizer, "named"),
    Case("ours-model", NeuralGraphOptimizer, "model"),
    Case("ours-model-Adam", partial(NeuralGraphOptimizer, rule=Adam()), "model"),
]

every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
"""Decorates a test that every optimizer passes."""

PLAIN = [case for case in CASES if case.form == "parameters"]
every_plain_case = pytest.mark.parametrize("case", PLAIN, ids=[case.name for case in PLAIN])
"""The same, where it makes no difference in which form the parameters are given."""


class Small(nn.Module):
    """A net of a convolution, a norm and a linear layer: all usual shapes, and a 0-dim one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 3)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.convolution(x).relu()).mean((2, 3))
        return self.linear(hidden) * self.temperature


def batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs (8, 2, 6, 6) and targets (8, 3) for :class:`Small`."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 2, 6, 6, generator=generator)
    y = torch.randn(8, 3, generator=generator)
    return x.to(dtype), y.to(dtype)


def loss_of(model: nn.Module, seed: int = 0) -> Tensor:
    """Mean squared error on a batch."""
    x, y = batch(seed, next(model.parameters()).dtype)
    return (model(x) - y).square().mean()


def backward(model: nn.Module, seed: int = 0) -> Tensor:
    """Leave the gradients of one batch, and return the loss."""
    model.zero_grad()
    loss = loss_of(model, seed)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, optimizer: Optimizer, steps: int = 3, start: int = 0) -> None:
    """Do steps on batches `start`, `start + 1`, ..."""
    for seed in range(start, start + steps):
        backward(model, seed)
        optimizer.step()


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Raise unless two dicts of tensors are bitwise equal."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), f"`{name}` differs"


def all_moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether each tensor has changed."""
    return all(not torch.equal(before[name], after[name]) for name in before)


def flat_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """All state tensors, by the place of their parameter and their name."""
    return {f"{i}.{k}": v for i, s in enumerate(optimizer.state.values()) for k, v in s.items()}


def hooks_of(model: nn.Module) -> list[int]:
    """The hooks that a model carries around its forward pass."""
    return [*model._forward_pre_hooks, *model._forward_hooks]


def hidden_sizes(graph: NeuralGraph) -> list[int]:
    """Sizes of the hidden spaces."""
    return sorted(space.size for space in graph.hidden)
