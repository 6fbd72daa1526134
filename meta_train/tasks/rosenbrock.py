"""Rosenbrock's valley in any number of dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import Family, register
from meta_train.tasks.task import Batch, Problem, Task, Tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.joined_graph import EMPTY, complete


class RosenbrockTask(Task):
    r"""Minimise the mean over `i` of :math:`s (w_{i+1} - w_i^2)^2 + (1 - w_i)^2`.

    Runs start at a point drawn from a normal distribution. There is nothing else that is random.

    Args:
        size: number of dimensions, at least 2.
        steepness: `s`, of the walls of the valley.

    Raises:
        MetaTrainError: if there are fewer dimensions.

    Source: Rosenbrock, "An Automatic Method for Finding the Greatest or Least Value of a
    Function", 1960.
    """

    def __init__(self, size: int, steepness: float) -> None:
        if size < 2:
            raise MetaTrainError(
                f"Rosenbrock's valley got size={size}.\n  It needs at least 2 dimensions."
            )
        self.size, self.steepness = size, steepness

    @cached_property
    def graph(self) -> NeuralGraph:
        """A lone vector."""
        return complete(EMPTY, {"point": torch.empty(self.size)})

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw the starting point (size,)."""
        return Problem({"point": torch.randn(self.size, generator=generator).to(self.device)}, {})

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Return one empty tensor (runs, 0): there are no samples."""
        return (torch.empty(runs, 0, device=self.device),)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Height of the valley at a point; its least value is 0."""
        before, after = parameters["point"][:-1], parameters["point"][1:]
        heights = self.steepness * (after - before.square()).square() + (1 - before).square()
        return heights.mean()


@register("rosenbrock")
@dataclass(frozen=True)
class Rosenbrock(Family):
    """Curved valleys.

    Args:
        size: number of dimensions, at least 2.
        steepness: of the walls; Rosenbrock's own is 100.
    """

    size: tuple[int, ...] = (2, 8)
    steepness: tuple[float, ...] = (1.0, 10.0, 100.0)

    def task(self, size: int, steepness: float) -> RosenbrockTask:
        """Build the task of one choice of each field."""
        return RosenbrockTask(size, steepness)
