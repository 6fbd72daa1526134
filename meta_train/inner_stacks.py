"""Stacks of inner runs, which are kept over outer steps; together they are the meta-batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from meta_train.errors import MetaTrainError
from meta_train.estimators.estimator import Estimate, Estimator, Particles
from meta_train.interleave import Work, finished
from meta_train.seeds import part_seed
from meta_train.tasks.family import Sampler
from meta_train.tasks.task import Task
from meta_train.unroll.runs import mapped


@dataclass(frozen=True)
class Lengths:
    """For how many inner steps a task is kept, drawn log-uniformly.

    Args:
        shortest: least number of inner steps.
        longest: largest number of inner steps.
    """

    shortest: int = 100
    longest: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise MetaTrainError(f"{self} makes no sense.\n  Use 1 <= shortest <= longest.")

    def draw(self, generator: torch.Generator) -> int:
        """Draw a number of inner steps."""
        low, high = math.log(self.shortest), math.log(self.longest)
        exponent = torch.rand((), generator=generator, dtype=torch.float64).item()
        return round(math.exp(low + (high - low) * exponent))


class InnerStack:
    """Inner runs of one task side by side, kept over outer steps; then those of another task.

    Everything random follows from the seed and the number, whichever process the stack is in. The
    first task is cut off at a random age, so that stacks do not begin new tasks in step.

    Args:
        number: of the stack, from 0.
        estimator: of the meta-gradient.
        families: what to draw tasks from, each as likely.
        problems: number of inner runs (antithetic pairs count once).
        lengths: for how long to keep a task.
        seed: of the whole meta-training.
        device: where the runs are.
        entries: number of weights that all its runs may have, so that there are fewer of large
            models; 0 for any number.
    """

    def __init__(
        self,
        number: int,
        estimator: Estimator,
        families: Sequence[Sampler],
        problems: int,
        lengths: Lengths,
        seed: int,
        device: torch.device,
        entries: int = 0,
    ) -> None:
        self.number, self.estimator, self.families = number, estimator, families
        self.problems, self.entries = problems, entries
        self.lengths, self.device = lengths, device
        self._task: Task | None = None
        self._generator = torch.Generator().manual_seed(part_seed(seed, number))
        self.age: int
        self.length: int
        self.particles: Particles
        self._renew()
        spent = torch.rand((), generator=self._generator, dtype=torch.float64).item()
        self.length = max(self.estimator.truncation, round(self.length * (1 - spent)))

    @property
    def task(self) -> Task:
        """The task at hand."""
        return self.particles.runs.task

    def estimate(self) -> Estimate:
        """Advance by one truncation and estimate the meta-gradient."""
        return finished(self.estimating())

    def estimating(self) -> Work[Estimate]:
        """Do the same, with pauses where another stack can take its turn."""
        if self.age >= self.length:
            self._renew()
        estimate = yield from self.estimator.estimating(self.particles)
        self.particles = estimate.particles
        self.age += self.estimator.truncation
        return estimate

    def _renew(self) -> None:
        self.age, self.length = 0, self.lengths.draw(self._generator)
        self._origin = self._generator.get_state()
        task = self._sample()
        if self._task is not None and task.name == self._task.name:
            task = self._task  # What has been recorded of it stays of use.
        self._task = task
        self.particles = self.estimator.begin(task, self._count(task), self._generator)

    def _count(self, task: Task) -> int:
        """Number of problems."""
        if not self.entries:
            return self.problems
        shown = task.problem(torch.Generator().manual_seed(0)).parameters
        weights = sum(tensor.numel() for tensor in shown.values())
        return max(1, min(self.problems, self.entries // (self.estimator.copies * weights)))

    def _sample(self) -> Task:
        choice = int(torch.randint(len(self.families), (), generator=self._generator))
        return self.families[choice].sample(self._generator).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors and numbers."""
        return {
            "age": self.age,
            "length": self.length,
            "origin": self._origin,
            "generator": self._generator.get_state(),
            "task": self.task.name,
            "runs": self.particles.runs.tensors(),
            "noise": self.particles.noise,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises:
            MetaTrainError: if the families no longer give the task that it was called with.
        """
        self.age, self.length, self._origin = state["age"], state["length"], state["origin"]
        self._generator.set_state(state["origin"])
        task = self._sample()
        if task.name != state["task"]:
            raise MetaTrainError(
                f"the checkpoint is of the task `{state['task']}`, but the same draw now gives "
                f"`{task.name}`.\n  Use the families it was saved with, or begin another run "
                "in another folder."
            )
        self._task = task
        runs = self.estimator.begin(task, self._count(task), self._generator).runs
        self._generator.set_state(state["generator"])
        saved = mapped(lambda tensor: tensor.to(self.device), state["runs"])
        noise = mapped(lambda tensor: tensor.to(self.device), state["noise"])
        self.particles = Particles(replace(runs.with_tensors(saved), made=self.age), noise)
