"""Back end for stacks: `torch.func` and `torch.vmap` run the models of all runs at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import innermost
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Batch, Task, Tensors
from meta_train.unroll.runs import Runs, mapped
from meta_train.unroll.unroll import Unroll


class Stacked(Unroll):
    """Runs the models of all runs of a stack at once; they must be pure functions."""

    def begin(self, task: Task, runs: int, generator: torch.Generator, copies: int = 1) -> Runs:
        """Start runs; see :meth:`Unroll.begin`.

        Raises:
            MetaTrainError: if the model changes its buffers as it runs.
        """
        inside = innermost(task)
        if isinstance(inside, ModelTask) and inside.stateful:
            raise MetaTrainError(
                f"the runs of `{task.name}` cannot be stacked: its model changes its buffers as it "
                "runs.\n  Use the back end `modules` (--backend modules), or batch normalisation "
                "with track_running_stats=False."
            )
        return super().begin(task, runs, generator, copies)

    def _losses(self, runs: Runs, batch: Batch) -> Tensor:
        """Losses on a batch, (runs,); nothing else comes of it."""
        losses: Tensor = _of_each(runs.task.loss, runs, batch)
        return losses

    def _gradients(self, runs: Runs, batch: Batch) -> Runs:
        """Return runs with their losses and gradients on a batch, after which models change."""
        look = grad_and_value(runs.task.loss)

        def one(parameters: Tensors, context: Tensors, batch: Batch) -> dict[str, Any]:
            gradients, loss = look(parameters, context, batch)
            return {"gradients": gradients, "losses": loss}

        return replace(runs, **_of_each(one, runs, batch))


def _of_each(function: Callable[..., Any], runs: Runs, batch: Batch) -> Any:
    """Apply a function of the task to all runs at once; copies share what is random in it."""
    each = torch.vmap(function, randomness="different")
    if runs.copies == 1:
        return each(runs.parameters, runs.context, batch)

    def apart(tensor: Tensor) -> Tensor:
        return tensor.reshape(runs.copies, len(tensor) // runs.copies, *tensor.shape[1:])

    of_copies = torch.vmap(each, randomness="same")
    found = of_copies(
        mapped(apart, runs.parameters), mapped(apart, runs.context), tuple(map(apart, batch))
    )
    return mapped(lambda tensor: tensor.flatten(0, 1), found)
