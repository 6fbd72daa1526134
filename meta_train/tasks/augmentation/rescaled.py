"""Other units for weights: the same network, whose gradients and weights have other scales."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import Wrapped
from meta_train.tasks.task import Batch, Problem, Task, Tensors

LEVELS = ("network", "tensor", "entry")
"""What has one scale."""


class Rescaled(Wrapped):
    """The weights `w` of a task become `w / s`, and its loss multiplies by `s` again.

    The loss at the start stays what it is, and gradients are multiplied by `s`. Each run draws its
    own scales, log-uniform between `1 / factor` and `factor`. Source: `ReparamWeights` of Metz et
    al., VeLO (2022), arXiv:2211.09760.

    Args:
        inner: the task.
        level: what has one scale, of :data:`LEVELS`.
        factor: greatest scale, at least 1.

    Raises:
        MetaTrainError: if there is no such level, or the factor is below 1.
    """

    def __init__(self, inner: Task, level: str, factor: float) -> None:
        if level not in LEVELS or not 1 <= factor < math.inf:
            raise MetaTrainError(
                f"cannot re-scale weights at the level {level!r} by up to {factor}.\n"
                f"  Use one of the levels {', '.join(LEVELS)} and a finite factor of at least 1."
            )
        super().__init__(inner, f"rescaled(level={level}, factor={factor:g})")
        self.level, self.factor = level, factor

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw where one run starts, and its scales."""
        start = self.inner.problem(generator)
        whole = self._draw((), generator)
        context, parameters = dict(start.context), {}
        for name, weight in start.parameters.items():
            scale = whole
            if self.level != "network":
                scale = self._draw(weight.shape if self.level == "entry" else (), generator)
            context[self.key(name)] = scale = scale.to(weight)
            parameters[name] = weight / scale
        return Problem(parameters, context)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Loss of the weights in their own units."""
        return self.inner.loss(self._weights(parameters, context), context, batch)

    def metrics(
        self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch
    ) -> dict[str, Tensor]:
        """Figures of the weights in their own units."""
        return self.inner.metrics(self._weights(parameters, context), context, batch)

    def _weights(self, parameters: Mapping[str, Tensor], context: Tensors) -> Tensors:
        return {name: p * context[self.key(name)] for name, p in parameters.items()}

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        exponents = 2 * torch.rand(shape, generator=generator) - 1
        return (exponents * math.log(self.factor)).exp()
