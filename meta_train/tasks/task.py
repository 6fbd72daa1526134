"""What a task is: a model and its data, of which any number of runs can be started."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from ngopt.graph.neural_graph import NeuralGraph

Tensors: TypeAlias = dict[str, Tensor]
Batch: TypeAlias = tuple[Tensor, ...]
Self = TypeVar("Self", bound="Task")
SPLITS = ("train", "held_out", "test")
"""Data to learn from, to measure meta-losses and choose settings on, and to report."""


class Problem(NamedTuple):
    """Where one run starts.

    Args:
        parameters: initial parameters, by name.
        context: what else makes this run different from others of the same task, such as the
            target of a quadratic or the scale of a weight; may be empty.
    """

    parameters: Tensors
    context: Tensors


class Task(ABC):
    """What an inner run minimises: one architecture and one set of data.

    All runs of a task have tensors of the same shapes and dtypes, so that they can be stacked and
    run side by side. They differ by their initial parameters, their context and their batches. All
    randomness comes from the given generators, which are on the CPU.
    """

    name: str
    """What it is, for tables and curves, such as `mlp(data=digits, width=32)`."""

    device: torch.device = torch.device("cpu")
    """Where problems and batches are."""

    measure: str | None = None
    """The split that meta-losses are measured on, if the task decides that and not the options."""

    @property
    @abstractmethod
    def graph(self) -> NeuralGraph:
        """The neural graph of the parameters."""

    @abstractmethod
    def problem(self, generator: torch.Generator) -> Problem:
        """Draw where one run starts."""

    @abstractmethod
    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw one batch for each run.

        Args:
            context: of all runs, stacked: each tensor has a leading dimension `runs`.
            runs: how many.
            generator: draws the samples.
            split: one of :data:`SPLITS`.

        Returns:
            Tensors with a leading dimension `runs`; they may be empty or few, but not none.
        """

    @abstractmethod
    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Loss of one run on one batch, 0-dim; differentiable, pure, and fit for `torch.vmap`."""

    def metrics(
        self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch
    ) -> dict[str, Tensor]:
        """More figures of one run on one batch, such as `accuracy`, 0-dim each; none by default."""
        return {}

    def to(self: Self, device: torch.device) -> Self:
        """Return this task with its problems and batches on a device.

        Tasks that hold tensors or modules extend this, and move them too.
        """
        moved = copy(self)
        moved.device = device
        return moved


def problems(task: Task, runs: int, generator: torch.Generator) -> Problem:
    """Draw where several runs start, stacked: each tensor gets a leading dimension `runs`."""
    drawn = [task.problem(generator) for _ in range(runs)]
    parameters = {n: torch.stack([p.parameters[n] for p in drawn]) for n in drawn[0].parameters}
    context = {n: torch.stack([p.context[n] for p in drawn]) for n in drawn[0].context}
    return Problem(parameters, context)
