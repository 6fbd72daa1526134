"""Random quadratics, whose condition number is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from meta_train.tasks.family import Family, register
from meta_train.tasks.task import Batch, Problem, Task, Tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.joined_graph import EMPTY, complete


class QuadraticTask(Task):
    r"""Minimise :math:`\frac{1}{2n} \lVert A (w - t - \epsilon) \rVert^2`.

    The `n` parameters `w` are the entries of a matrix (size, size) and of a vector (size,), drawn
    from a normal distribution as the target `t` is. The eigenvalues of :math:`A^\top A` are
    log-uniform from `1 / c` to 1, where `c` is log-uniform from 1 to `condition`. The noise
    :math:`\epsilon` of a batch is normal, and there is none outside the training split.

    Args:
        size: of the matrix and the vector.
        condition: largest condition number.
        rotated: whether the eigenvectors are a random rotation of the axes, or the axes.
        noise: standard deviation of each entry of the noise.
    """

    def __init__(self, size: int, condition: float, rotated: bool, noise: float) -> None:
        self.shapes = {"matrix": (size, size), "vector": (size,)}
        self.total = size * size + size
        self.condition, self.rotated, self.noise = condition, rotated, noise

    @cached_property
    def graph(self) -> NeuralGraph:
        """Each tensor is a graph by itself."""
        return complete(EMPTY, {name: torch.empty(s) for name, s in self.shapes.items()})

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw parameters, the target (n,), and the factor: (n, n) rotated, otherwise (n,)."""
        parameters = {
            name: torch.randn(shape, generator=generator).to(self.device)
            for name, shape in self.shapes.items()
        }
        span = torch.rand((), generator=generator) * math.log(self.condition)
        factor = torch.exp(-span / 2 * torch.rand(self.total, generator=generator))
        if self.rotated:
            normal = torch.randn(self.total, self.total, generator=generator)
            factor = factor.unsqueeze(1) * torch.linalg.qr(normal).Q
        target = torch.randn(self.total, generator=generator)
        return Problem(
            parameters, {"factor": factor.to(self.device), "target": target.to(self.device)}
        )

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw the noise (runs, n)."""
        noise = self.noise * torch.randn(runs, self.total, generator=generator)
        return ((noise if split == "train" else torch.zeros_like(noise)).to(self.device),)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Half the mean square of the scaled distance from the target."""
        flat = torch.cat([parameters[name].flatten() for name in self.shapes])
        distance = flat - context["target"] - batch[0]
        factor = context["factor"]
        scaled = factor @ distance if self.rotated else factor * distance
        return scaled.square().mean() / 2


@register("quadratic")
@dataclass(frozen=True)
class Quadratic(Family):
    """Random quadratics of a matrix and a vector.

    Args:
        size: of the matrix (size, size) and the vector (size,).
        condition: largest condition number; that of a run is log-uniform from 1 up to it.
        rotated: whether the eigenvectors are rotated away from the axes.
        noise: standard deviation of the noise in the target.
    """

    size: tuple[int, ...] = (4, 8)
    condition: tuple[float, ...] = (1e1, 1e3)
    rotated: tuple[bool, ...] = (False, True)
    noise: tuple[float, ...] = (0.0, 0.1)

    def task(self, size: int, condition: float, rotated: bool, noise: float) -> QuadraticTask:
        """Build the task of one choice of each field."""
        return QuadraticTask(size, condition, rotated, noise)
