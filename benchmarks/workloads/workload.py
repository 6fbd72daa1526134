"""What a workload is: a model, data, and the recipe by which people train it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

Schedule = Callable[[int], float]
"""Factor of the learning rate at a step, counted from 0."""


@dataclass(frozen=True)
class Recipe:
    """How people train a model.

    Args:
        optimizer: the optimizer's class, such as `torch.optim.AdamW`.
        lr: its learning rate.
        options: its other options, such as `betas`.
        decayed: weight decay of the parameters with two or more dimensions; others have none.
        schedule: factor of the learning rate at each step; None for a constant one.
    """

    optimizer: type[Optimizer]
    lr: float
    options: Mapping[str, Any] = field(default_factory=dict)
    decayed: float = 0.0
    schedule: Schedule | None = None

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups with and without weight decay; frozen parameters are left out."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        split = {
            self.decayed: [p for p in parameters if p.dim() >= 2],
            0.0: [p for p in parameters if p.dim() < 2],
        }
        if not self.decayed:
            split = {0.0: parameters}
        return [{"params": ps, "weight_decay": decay} for decay, ps in split.items() if ps]


class Training(ABC):
    """One run of a workload, from one seed: fresh models, their data, and their recipes.

    Args:
        recipes: how each model is trained, in the order of `optimizers` in :meth:`step`; most
            workloads have one model.
        clip: largest norm of the gradient of all parameters of a model; None for any.
    """

    def __init__(self, recipes: Sequence[tuple[nn.Module, Recipe]], clip: float | None = None):
        self.recipes, self.clip = list(recipes), clip

    def loss(self) -> Tensor:
        """Loss on the next batch; each call draws another one."""
        raise NotImplementedError(f"{type(self).__name__} takes its own steps")

    def step(self, optimizers: Sequence[Optimizer]) -> float:
        """Do one step of training and return the loss before it.

        A training of several models, or one that acts in an environment, takes steps of its own.
        """
        (optimizer,) = optimizers
        loss = self.loss()
        optimizer.zero_grad()
        loss.backward()
        self.clip_gradients()
        optimizer.step()
        return loss.item()

    def clip_gradients(self) -> None:
        """Scale down the gradients of each model to the norm of the recipe."""
        for model, _ in self.recipes:
            if self.clip is not None:
                clip_grad_norm_(model.parameters(), self.clip)

    @abstractmethod
    def metric(self) -> float:
        """What counts in the end, on held-out data; it changes nothing."""


@dataclass(frozen=True)
class Workload:
    """A kind of training.

    Args:
        name: on the command line.
        title: in tables.
        build: makes a run from a seed, which decides the initial weights and the order of data.
        steps: length of a run.
        every: number of steps from one evaluation of the metric to the next.
        metric: its name, such as `validation loss`.
        higher: whether a higher metric is better.
        source: where the recipe comes from.
        task: whether it starts from trained weights: `fresh`, or `fine-tuning`.
    """

    name: str
    title: str
    build: Callable[[int], Training]
    steps: int
    every: int
    metric: str
    source: str
    higher: bool = False
    task: str = "fresh"


def cosine(steps: int, *, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A cosine from 1 to `final`, after a linear warm-up.

    >>> schedule = cosine(100, warmup=10, final=0.1)
    >>> [round(schedule(step), 2) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = torch.tensor(min(1.0, (step - warmup) / max(1, steps - warmup)))
        return final + (1 - final) * 0.5 * (1 + torch.cos(done * torch.pi).item())

    return factor


def linear(steps: int, *, warmup: int = 0, final: float = 0.0) -> Schedule:
    """A straight line from 1 to `final`, after a linear warm-up.

    >>> schedule = linear(100, warmup=10)
    >>> [round(schedule(step), 2) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return final + (1 - final) * max(0.0, 1 - (step - warmup) / max(1, steps - warmup))

    return factor
