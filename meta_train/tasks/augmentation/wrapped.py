"""A task around another one."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import TypeVar

import torch
from torch import Tensor

from meta_train.tasks.task import Batch, Problem, Task, Tensors
from ngopt.graph.neural_graph import NeuralGraph

Self = TypeVar("Self", bound="Wrapped")


class Wrapped(Task):
    """Another task, for subclasses to change something of.

    What a subclass keeps in the context goes under `self.key(...)`, which no task within uses.

    Args:
        inner: the other task, which may be wrapped itself.
        label: what is different, for the name.
    """

    def __init__(self, inner: Task, label: str) -> None:
        self.inner = inner
        self.name = f"{inner.name} + {label}"
        self.device, self.measure = inner.device, inner.measure
        self.layer: int = inner.layer + 1 if isinstance(inner, Wrapped) else 1

    @property
    def graph(self) -> NeuralGraph:
        """The neural graph of the other task."""
        return self.inner.graph

    def key(self, name: str) -> str:
        """Name in the context of something that belongs to this wrapper."""
        return f"augmentation {self.layer}: {name}"

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw where one run starts."""
        return self.inner.problem(generator)

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw one batch for each run."""
        return self.inner.batches(context, runs, generator, split)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Loss of one run on one batch."""
        return self.inner.loss(parameters, context, batch)

    def metrics(
        self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch
    ) -> dict[str, Tensor]:
        """Figures of the other task."""
        return self.inner.metrics(parameters, context, batch)

    def to(self: Self, device: torch.device) -> Self:
        """Return this task with its data, problems and batches on a device."""
        return self.around(self.inner.to(device))

    def around(self: Self, inner: Task) -> Self:
        """Return the same wrapper around a changed task."""
        moved = copy(self)
        moved.inner, moved.device, moved.measure = inner, inner.device, inner.measure
        return moved


def with_innermost(task: Task, change: Callable[[Task], Task]) -> Task:
    """Return the same wrappers around a changed task; the task itself stays as it is."""
    if isinstance(task, Wrapped):
        return task.around(with_innermost(task.inner, change))
    return change(task)


def innermost(task: Task) -> Task:
    """The task within all wrappers."""
    while isinstance(task, Wrapped):
        task = task.inner
    return task
