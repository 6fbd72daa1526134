"""What every estimator of the meta-gradient does."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.interleave import Work, finished
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.task import Task, Tensors
from meta_train.unroll.runs import Runs
from meta_train.unroll.unroll import Unroll


@dataclass(frozen=True)
class Particles:
    """Inner runs, and what an estimator remembers of them.

    Args:
        runs: the inner runs.
        noise: what an estimator has added to theta so far, by name of the weight, with a leading
            dimension that runs over problems; empty for estimators without noise.
    """

    runs: Runs
    noise: Tensors


class Estimate(NamedTuple):
    """What an estimator returns.

    Args:
        gradient: of the mean meta-loss over the problems, by name of the weight; finite.
        losses: meta-loss of each run, (runs,).
        diverged: number of runs that have diverged and were started anew, 0-dim.
        particles: where the runs stand now.
    """

    gradient: Tensors
    losses: Tensor
    diverged: Tensor
    particles: Particles


class Estimator(ABC):
    """Estimates the derivative of the meta-loss with respect to theta, one truncation at a time.

    Args:
        unroll: trains inner runs.
        meta_loss: of their losses.
        truncation: number of inner steps per estimate.

    Raises:
        MetaTrainError: if the rule has no weights that can be learned, or a truncation no steps.
    """

    copies = 1
    """How many runs share a problem."""

    def __init__(self, unroll: Unroll, meta_loss: MetaLoss, truncation: int) -> None:
        if not any(weight.requires_grad for weight in unroll.rule.parameters()):
            raise MetaTrainError(
                f"there is nothing to meta-train in {type(unroll.rule).__name__}: none of its "
                "weights can be learned.\n  Use a rule with weights that require gradients."
            )
        if truncation < 1:
            raise MetaTrainError(
                f"a truncation of {truncation} steps has no losses.\n  Use at least 1 step."
            )
        self.unroll, self.meta_loss, self.truncation = unroll, meta_loss, truncation

    def begin(self, task: Task, problems: int, generator: torch.Generator) -> Particles:
        """Start inner runs."""
        return Particles(self.unroll.begin(task, problems, generator, self.copies), {})

    def estimate(self, particles: Particles) -> Estimate:
        """Advance the runs by one truncation, and estimate the meta-gradient over it.

        Runs that diverge on the way are started anew. If the estimate itself is not finite, it is
        replaced by zeros, and all runs are started anew.
        """
        return finished(self.estimating(particles))

    def estimating(self, particles: Particles) -> Work[Estimate]:
        """Do the same, with pauses where another stack can take its turn."""
        gradient, losses, after = yield from self._estimating(particles)
        runs = after.runs
        usable = torch.stack([torch.isfinite(g).all() for g in gradient.values()]).all()
        gradient = {n: torch.where(usable, g, 0.0).detach() for n, g in gradient.items()}
        diverged = runs.diverged.view(runs.copies, -1).any(0).repeat(runs.copies) | ~usable
        if diverged.any():
            runs = self.unroll.restart(runs, diverged)
            once = diverged[: len(runs) // runs.copies]
            after = Particles(runs, self._renewed(after.noise, once, runs))
        return Estimate(gradient, losses.detach(), diverged.sum(), after)

    def _renewed(self, noise: Tensors, which: Tensor, runs: Runs) -> Tensors:
        """What is remembered of the noise of problems, some of which `(problems,)` begin anew."""
        return {name: torch.where(per_problem(which, t), 0.0, t) for name, t in noise.items()}

    def _estimating(self, particles: Particles) -> Work[tuple[Tensors, Tensor, Particles]]:
        """Do what :meth:`_estimate` does; with pauses, if there are any."""
        yield
        return self._estimate(particles)

    @abstractmethod
    def _estimate(self, particles: Particles) -> tuple[Tensors, Tensor, Particles]:
        """Gradient, meta-loss of each run, and where the runs stand, detached."""


def per_problem(flags: Tensor, tensor: Tensor) -> Tensor:
    """Flags `(problems,)`, so that they broadcast to a tensor `(problems, ...)`."""
    return flags.view(-1, *[1] * (tensor.dim() - 1))
