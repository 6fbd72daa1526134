"""Inner runs with optimizers of torch, one for each run, in place of a rule."""

import hashlib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from meta_train.errors import MetaTrainError
from meta_train.interleave import Work
from meta_train.tasks.task import Batch, Task, Tensors
from meta_train.unroll.move import Move
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.runs import Runs
from meta_train.unroll.stacked import Stacked
from ngopt.rules.rule import State
from ngopt.rules.sgdm import SGDM


@dataclass(frozen=True)
class TorchOptimizer:
    """An optimizer that is no rule, with its options.

    Args:
        path: module and class, such as `pytorch_optimizer.SOAP`.
        options: by keyword, without `lr` and `weight_decay`, which it must take too.
        shares: more options, which are these shares of the number of steps.
        files: more options, which are paths of files; what counts is what is in them.
    """

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its class."""
        return self.path.rpartition(".")[2]

    @property
    def config(self) -> dict[str, Any]:
        """Everything about it, as plain data, with digests in place of files.

        Raises:
            MetaTrainError: if a file cannot be read.
        """
        return asdict(self) | {"files": {key: _digest(path) for key, path in self.files.items()}}

    def build(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, steps: int
    ) -> Optimizer:
        """Make one for the parameters of one run.

        Args:
            parameters: to train.
            lr: learning rate.
            weight_decay: as the optimizer means it.
            steps: number of steps to come.

        Raises:
            MetaTrainError: if its package is not installed.
        """
        module, _, name = self.path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise MetaTrainError(
                f"the opponent {name} is in the package {module}, which is not installed.\n"
                f"  Install it (pip install {module}), or leave {name} out of the opponents."
            ) from error
        shares = {key: round(share * steps) for key, share in self.shares.items()}
        options = {**self.options, **shares, **self.files}
        made: Optimizer = cls(list(parameters), lr=lr, weight_decay=weight_decay, **options)
        return made


class TorchRuns(Stacked):
    """Trains a stack whose every run has an optimizer of torch with memory of its own.

    Models run stacked, as with rules; then each optimizer steps its own run. Those that train at
    other weights than they are to be measured at, and have methods `train` and `eval` for that, as
    the schedule-free ones do, get gradients at the former, while losses are those of the latter,
    which are the `average` of the runs.

    The optimizers remember where they are, so that runs cannot be gone back to or started anew.

    Args:
        optimizer: what trains.
        options: how runs are trained and measured; the weight decay is the optimizer's.
        steps: number of steps that will be made.
    """

    def __init__(
        self, optimizer: TorchOptimizer, options: UnrollOptions | None = None, steps: int = 1
    ) -> None:
        # A rule without memory stands where an unroll has one; it is never asked for a step.
        super().__init__(SGDM(momentum=0.0), options)
        self.optimizer, self.steps = optimizer, steps
        self._each: list[_Run] = []

    def begin(self, task: Task, runs: int, generator: torch.Generator, copies: int = 1) -> Runs:
        """Start runs; see :meth:`Unroll.begin`."""
        begun = super().begin(task, runs, generator, copies)
        self._each = [
            _Run(
                self.optimizer,
                {name: tensor[n] for name, tensor in begun.parameters.items()},
                self.options.weight_decay or 0.0,
                self.steps,
            )
            for n in range(len(begun))
        ]
        return replace(begun, average=dict(begun.parameters)) if self._each[0].averages else begun

    def restart(self, runs: Runs, which: Tensor) -> Runs:
        """Refuse: an optimizer remembers the run it began.

        Raises:
            MetaTrainError: always.
        """
        raise MetaTrainError(
            f"runs with {self.optimizer.name} cannot be started anew.\n"
            "  Begin another stack with another TorchRuns."
        )

    def _mover(self, runs: Runs, theta: Mapping[str, Tensor]) -> Move:
        return self._moved

    def _moved(self, runs: Runs, *, fresh: bool = True) -> tuple[Tensors, State]:
        rates, losses, diverged = (t.tolist() for t in (runs.lr, runs.losses, runs.diverged))
        for n, run in enumerate(self._each):
            if not diverged[n]:
                gradients = {name: gradient[n] for name, gradient in runs.gradients.items()}
                run.step(gradients, losses[n], rates[n])
        return _stacked([run.weights for run in self._each]), runs.state

    def _averaged(self, runs: Runs, parameters: Tensors) -> Tensors:
        return _stacked([run.measured() for run in self._each]) if runs.average else {}

    def _gradients(self, runs: Runs, batch: Batch) -> Runs:
        """Return runs with their gradients on a batch, and the losses of what is measured."""
        seen = super()._gradients(runs, batch)
        if not runs.average:
            return seen
        return replace(seen, losses=self._losses(replace(runs, parameters=runs.average), batch))

    def _captured(
        self, runs: Runs, looks: Sequence[bool], theta: Mapping[str, Tensor]
    ) -> Work[tuple[Runs, list[Tensor]]]:
        """Step without a CUDA graph: what optimizers do depends on numbers on the host."""
        result = self._eager(runs, looks, theta)
        yield
        return result


class _Run:
    """The weights of one run, and their optimizer."""

    def __init__(
        self, optimizer: TorchOptimizer, weights: Tensors, weight_decay: float, steps: int
    ) -> None:
        self._parameters = {name: nn.Parameter(w.clone()) for name, w in weights.items()}
        lr = 1.0  # given anew at each step
        self._optimizer: Any = optimizer.build(self._parameters.values(), lr, weight_decay, steps)
        self.averages = all(hasattr(self._optimizer, name) for name in ("train", "eval"))

    @property
    def weights(self) -> Tensors:
        """Where gradients are to be taken."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def step(self, gradients: Tensors, loss: float, lr: float) -> None:
        """Do one step. What asks for the loss gets it; its gradients are there already."""
        for name, parameter in self._parameters.items():
            parameter.grad = gradients[name].clone()  # Some overwrite them.
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        try:
            self._optimizer.step(lambda: loss)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # Finite gradients whose products are not: a rule's run would diverge, and so does this.
            for parameter in self._parameters.values():
                parameter.data.fill_(math.nan)

    def measured(self) -> Tensors:
        """The weights that are the result of training, as `eval` has them."""
        before = {name: weight.clone() for name, weight in self.weights.items()}
        self._optimizer.eval()
        found = {name: weight.clone() for name, weight in self.weights.items()}
        self._optimizer.train()
        # Back and forth is not exact, and many times so would add up.
        for name, parameter in self._parameters.items():
            parameter.data.copy_(before[name])
        return found


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise MetaTrainError(
            f"cannot read `{path}`: {error}.\n  Give the path of a file that is there."
        ) from error


def _stacked(each: list[Tensors]) -> Tensors:
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}
