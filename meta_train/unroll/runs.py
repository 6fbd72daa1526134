"""The state of inner runs that stand side by side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from meta_train.tasks.task import Problem, Task, Tensors, problems
from ngopt.optim.update import init_state
from ngopt.rules.rule import Rule, State


@dataclass(frozen=True)
class Runs:
    """Inner runs of one task. Every tensor has a leading dimension that runs over them.

    With `copies` above 1, runs are copies of each other with regard to all that is random: run
    `i` and run `i + len(self) // copies` start alike and see the same batches. So what differs
    between them is theta alone.

    Args:
        task: what all of them minimise.
        generator: draws their problems and batches.
        copies: how many runs share a problem and batches.
        parameters: of the models.
        context: of the problems.
        state: of the rule.
        gradients: at the parameters, on the next batch; finite.
        losses: of the next batch, (runs,).
        unit: loss of the untrained models, (runs,); what losses are measured in.
        lr: learning rates, (runs,).
        diverged: which runs have diverged and stand still since, (runs,).
        buffers: of the models, where these change during a run.
        batch: the next batch, by position, where it is measured on again.
        average: mean of the parameters, where it is what is measured.
        made: number of steps since the stack began.
    """

    task: Task
    generator: torch.Generator
    copies: int
    parameters: Tensors
    context: Tensors
    state: State
    gradients: Tensors
    losses: Tensor
    unit: Tensor
    lr: Tensor
    diverged: Tensor
    buffers: Tensors = field(default_factory=dict)
    batch: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    made: int = 0

    def __len__(self) -> int:
        return len(self.losses)

    def draw(self, split: str = "train") -> tuple[Tensor, ...]:
        """Draw the next batch of each run."""
        once = len(self) // self.copies
        context = {name: tensor[:once] for name, tensor in self.context.items()}
        batch = self.task.batches(context, once, self.generator, split)
        return tuple(repeated(tensor, self.copies) for tensor in batch)

    def seed(self) -> int:
        """Draw a seed for what is random inside the models."""
        return int(torch.randint(2**62, (), generator=self.generator))

    def tensors(self) -> dict[str, Any]:
        """All tensors, by name, in nested dicts; what :meth:`with_tensors` takes."""
        kept = ("task", "generator", "copies", "made")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in kept}

    def with_tensors(self, tensors: Mapping[str, Any]) -> "Runs":
        """Return these runs with other tensors."""
        return replace(self, **tensors)

    def detached(self) -> "Runs":
        """Return these runs with no memory of how they came about."""
        return self.with_tensors(mapped(torch.detach, self.tensors()))


def mapped(function: Callable[..., Tensor], first: Any, *more: Any) -> Any:
    """Apply a function to the tensors at the same places of nested dicts."""
    if isinstance(first, Tensor):
        return function(first, *more)
    return {key: mapped(function, first[key], *(other[key] for other in more)) for key in first}


def repeated(tensor: Tensor, copies: int) -> Tensor:
    """Repeat a stack of tensors as a whole: (n, ...) to (copies * n, ...)."""
    return tensor if copies == 1 else torch.cat([tensor] * copies)


def chosen(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Take `new` for the runs where `which` (runs,) is true, and `old` for the others."""
    return torch.where(which.view(-1, *[1] * (new.dim() - 1)), new, old)


def start(task: Task, rule: Rule, runs: int, generator: torch.Generator, copies: int) -> Runs:
    """Draw where runs start, with the rule's fresh state; gradients and losses are zeros yet.

    Args:
        task: what they minimise.
        rule: whose state they carry.
        runs: how many problems; there are `runs * copies` runs.
        generator: draws problems and, later, batches; it is kept.
        copies: how many runs share a problem and batches.
    """
    drawn = problems(task, runs, generator)._asdict()
    problem = Problem(**mapped(lambda tensor: repeated(tensor, copies), drawn))
    graph = task.graph

    def fresh(parameters: Tensors) -> State:
        return init_state(parameters, graph, rule)

    state = mapped(torch.clone, torch.vmap(fresh)(problem.parameters))
    ones = torch.ones(runs * copies, device=task.device)
    return Runs(
        task=task,
        generator=generator,
        copies=copies,
        parameters=problem.parameters,
        context=problem.context,
        state=state,
        gradients=mapped(torch.zeros_like, problem.parameters),
        losses=0 * ones,
        unit=ones,
        lr=ones,
        diverged=torch.zeros_like(ones, dtype=torch.bool),
    )
