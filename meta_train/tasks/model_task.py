"""The usual task: an `nn.Module`, a data set and a loss function."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import ngopt
from meta_train.data.dataset import Dataset
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import Batch, Problem, Task, Tensors
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.graph.trace import state_buffers

Loss = Callable[[Any, Tensor], Tensor]


class ModelTask(Task):
    """A module learns the last tensor of each batch from the ones before.

    Args:
        build: makes the module, with random weights from torch's global generator.
        data: what it learns from.
        loss: of outputs and targets, 0-dim.
        batch: number of samples per step.
        name: of the task.

    Raises:
        MetaTrainError: if the module has no parameters.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        data: Dataset,
        loss: Loss,
        batch: int = 64,
        name: str = "",
    ) -> None:
        self.build, self.data, self.criterion, self.batch = build, data, loss, batch
        self.name = name or data.name
        self.module = fresh(build, torch.Generator().manual_seed(0))
        if not list(self.module.parameters()):
            raise MetaTrainError(
                f"the model of the task `{self.name}` has no parameters.\n"
                "  Give `build` a function that makes an nn.Module with weights."
            )

    @cached_property
    def graph(self) -> NeuralGraph:
        """Traced on two samples."""
        *inputs, _ = (tensor[:2] for tensor in self.data.splits["train"])
        return ngopt.trace(self.module, *inputs)

    @property
    def stateful(self) -> bool:
        """Whether the module changes its buffers as it runs, as running means are."""
        return any(
            getattr(module, name, None) is not None
            for module in self.module.modules()
            for name in state_buffers(module)
        )

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw the weights of a fresh module."""
        return Problem(weights(fresh(self.build, generator), self.device), {})

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw samples with replacement: each tensor is (runs, batch, ...)."""
        return self.data.sample(runs, self.batch, generator, split)

    def loss(self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch) -> Tensor:
        """Loss of the module with other weights."""
        *inputs, targets = batch
        return self.criterion(self.outputs(parameters, inputs), targets)

    def metrics(
        self, parameters: Mapping[str, Tensor], context: Tensors, batch: Batch
    ) -> dict[str, Tensor]:
        """Accuracy, where the targets are classes."""
        if not self.data.classes:
            return {}
        *inputs, targets = batch
        right = self.outputs(parameters, inputs).argmax(-1) == targets
        return {"accuracy": right.float().mean()}

    def outputs(self, parameters: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Any:
        """Outputs of the module with other weights."""
        return functional_call(self.module, dict(parameters), tuple(inputs))

    def to(self, device: torch.device) -> "ModelTask":
        """Return this task with its data, problems and batches on a device."""
        if device == self.device:
            return self
        moved = super().to(device)
        moved.data = self.data.to(device)
        moved.module = deepcopy(self.module).to(device)
        return moved


def fresh(build: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """Make a module whose random weights come from a generator, not from torch's global one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return build()


def weights(module: nn.Module, device: torch.device) -> Tensors:
    """Parameters of a module by name, as plain tensors on a device."""
    return {name: p.detach().to(device) for name, p in module.named_parameters()}
