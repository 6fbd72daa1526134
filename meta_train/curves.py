"""Inner training curves of a rule on a task, for many settings at once."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from meta_train.errors import MetaTrainError
from meta_train.tasks.task import Batch, Problem, Task, Tensors
from meta_train.tasks.task import problems as drawn_problems
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.runs import Runs, mapped
from meta_train.unroll.stacked import Stacked
from meta_train.unroll.torch_optimizers import TorchOptimizer, TorchRuns
from meta_train.unroll.unroll import Unroll
from ngopt.rules.rule import Rule

Stepper: TypeAlias = Rule | TorchOptimizer
"""What trains inner models."""

Schedule: TypeAlias = Literal["constant", "cosine"]

DELAY = 2.0
"""Seconds after which progress is shown."""

SPLITS = ("held_out", "test")
"""What the trained models are measured on: settings are chosen by the first."""

WEIGHTS_AT_ONCE = 2**24
"""Number of weights up to which runs of different settings are stacked."""

FLOPS_AT_ONCE = 2**29
"""Floating-point operations of a forward pass up to which such runs are stacked on a CPU: large
stacks save the launching of small operations, but they leave the caches, and fill the memory."""


@dataclass(frozen=True)
class Setting:
    """How a rule is used.

    Args:
        lr: learning rate at the first step.
        schedule: `constant`, or `cosine`: along half a cosine to 0 after the last step.
        weight_decay: decoupled weight decay; None for the rule's own.
    """

    lr: float = 1e-3
    schedule: Schedule = "constant"
    weight_decay: float | None = 0.0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of `steps` in all.

        >>> [round(Setting(1.0, "cosine").rate(step, 4), 2) for step in range(4)]
        [1.0, 0.85, 0.5, 0.15]
        """
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * step / steps)) / 2

    def __str__(self) -> str:
        decay = f", weight decay {self.weight_decay:g}" if self.weight_decay else ""
        decay = ", own weight decay" if self.weight_decay is None else decay
        return f"lr {self.lr:g} {self.schedule}{decay}"


@dataclass(frozen=True)
class Budget:
    """For how long, and on how many problems, rules are compared.

    Args:
        steps: number of inner steps.
        problems: number of runs of each setting; all settings see the same problems and batches.
        seed: of the problems and batches.
        batches: number of batches of each split that the trained models are measured on.
    """

    steps: int = 500
    problems: int = 4
    seed: int = 0
    batches: int = 16

    def __post_init__(self) -> None:
        if min(self.steps, self.problems, self.batches) < 1:
            raise MetaTrainError(
                f"{self} measures nothing.\n  Use at least 1 step, 1 problem and 1 batch."
            )


@dataclass(frozen=True)
class Curve:
    """What became of the runs of one setting. All tensors are on the CPU.

    Args:
        losses: after each step, on the next batch of training, (steps, problems). A run that has
            diverged keeps 100 times the loss of the untrained model.
        untrained: loss of the untrained models, (problems,).
        measured: of the trained models, by split and figure (`loss` and the metrics of the task),
            (problems,). Of a diverged run, the metrics are NaN.
        diverged: which runs have diverged, (problems,).
    """

    losses: Tensor
    untrained: Tensor
    measured: dict[str, dict[str, Tensor]]
    diverged: Tensor

    @property
    def final(self) -> Tensor:
        """Mean training loss of the last tenth of the steps, (problems,)."""
        return smoothed(self.losses)[-1]

    def plain(self) -> dict[str, Any]:
        """Lists of numbers, for JSON; :meth:`of` makes the curve of them again."""
        lists: dict[str, Any] = mapped(lambda tensor: tensor.tolist(), asdict(self))
        return lists

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Curve":
        """Make the curve that :meth:`plain` was called on."""
        measured = {
            split: {name: torch.tensor(numbers) for name, numbers in figures.items()}
            for split, figures in plain["measured"].items()
        }
        losses, untrained = (torch.tensor(plain[name]) for name in ("losses", "untrained"))
        return cls(losses, untrained, measured, torch.tensor(plain["diverged"]))


def smoothed(losses: Tensor) -> Tensor:
    """Average each loss with those before it, as many as a tenth of all; float64.

    Args:
        losses: after each step, (steps, ...).

    >>> smoothed(torch.arange(20)).tolist()[:4]
    [0.0, 0.5, 1.5, 2.5]
    """
    width = max(1, len(losses) // 10)
    exact = losses.double()
    return torch.stack([exact[max(0, n - width) : n].mean(0) for n in range(1, len(losses) + 1)])


def curves(
    rule: Stepper, task: Task, settings: Sequence[Setting], budget: Budget, label: str = ""
) -> list[Curve]:
    """Train models with a rule or an optimizer, with each setting on the same problems and batches.

    A run that diverges stands still; it is not started anew.

    Args:
        rule: what trains them; a rule is on the device of the task, and its theta stays as it is.
        task: what to train.
        settings: how the rule is used.
        budget: for how long.
        label: of the progress bar, which is shown if it takes longer than two seconds; by default
            it says what trains what.

    Returns:
        The curve of each setting.
    """
    label = label or _label(rule, task, len(settings))
    found: dict[int, Curve] = {}
    for places in stacks(task, settings, budget.problems):
        with torch.no_grad():
            together = _together(rule, task, [settings[place] for place in places], budget, label)
        found |= zip(places, together, strict=True)
    return [found[place] for place in range(len(settings))]


def shown_steps(steps: int, label: str) -> Iterator[int]:
    """Count inner steps from 0, with a labelled progress bar if they take over two seconds."""
    yield from tqdm(
        range(steps),
        desc=label,
        unit="inner step",
        delay=DELAY,
        leave=False,
        dynamic_ncols=True,
    )


def _label(rule: Stepper, task: Task, settings: int) -> str:
    """What a progress bar says: `tuning Adam on mlp (14 settings)`."""
    name = rule.name if isinstance(rule, TorchOptimizer) else type(rule).__name__
    family = task.name.partition("(")[0]
    return (
        f"tuning {name} on {family} ({settings} settings)"
        if settings > 1
        else f"{name} on {family}"
    )


def weights(task: Task) -> int:
    """Number of weights of a model of the task."""
    return sum(math.prod(layout.shape) for layout in task.graph.parameters.values())


def stacks(task: Task, settings: Sequence[Setting], problems: int) -> list[list[int]]:
    """Numbers of the settings that are stacked: of one weight decay, and not too many.

    Args:
        task: what is trained.
        settings: of all runs.
        problems: number of runs of each setting.
    """
    limits = [WEIGHTS_AT_ONCE // max(1, weights(task) * problems)]
    if task.device.type == "cpu":
        limits.append(FLOPS_AT_ONCE // max(1, _flops(task) * problems))
    most = max(1, min(limits))
    found = []
    for decay in dict.fromkeys(setting.weight_decay for setting in settings):
        alike = [n for n, setting in enumerate(settings) if setting.weight_decay == decay]
        found += [alike[start : start + most] for start in range(0, len(alike), most)]
    return found


def _flops(task: Task) -> int:
    """Floating-point operations of the loss of one run: of matrix products and convolutions."""
    generator = torch.Generator().manual_seed(0)
    drawn = drawn_problems(task, 1, generator)
    batch = task.batches(drawn.context, 1, generator)
    first = Problem(*(mapped(lambda tensor: tensor[0], tensors) for tensors in drawn))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        task.loss(first.parameters, first.context, tuple(tensor[0] for tensor in batch))
    return int(counter.get_total_flops())


def _together(
    rule: Stepper, task: Task, settings: Sequence[Setting], budget: Budget, label: str
) -> Iterator[Curve]:
    """Train with settings that have the same weight decay."""
    options = UnrollOptions(weight_decay=settings[0].weight_decay)
    unroll: Unroll = (
        TorchRuns(rule, options, budget.steps)
        if isinstance(rule, TorchOptimizer)
        else Stacked(rule, options)
    )
    generator = torch.Generator().manual_seed(budget.seed)
    runs = unroll.begin(task, budget.problems, generator, len(settings))
    losses = []
    for step in shown_steps(budget.steps, label):
        rates = torch.tensor([setting.rate(step, budget.steps) for setting in settings])
        lr = rates.repeat_interleave(budget.problems).to(runs.lr)
        runs, loss = unroll.advance(replace(runs, lr=lr), 1, made=step)
        losses.append(loss[0])
    limit = options.diverged_above * runs.unit
    tensors = {
        "losses": torch.stack(losses),
        "untrained": runs.unit,
        "measured": {split: _measure(runs, split, budget.batches, limit) for split in SPLITS},
        "diverged": runs.diverged,
    }
    shape = (len(settings), budget.problems)
    by_setting = mapped(lambda tensor: tensor.cpu().unflatten(-1, shape), tensors)
    return (
        Curve(**mapped(lambda tensor, n=number: tensor[..., n, :], by_setting))
        for number in range(len(settings))
    )


def _measure(runs: Runs, split: str, batches: int, limit: Tensor) -> Tensors:
    """Mean loss and metrics of each run over batches of a split."""

    def figures(parameters: Tensors, context: Tensors, batch: Batch) -> Tensors:
        loss = runs.task.loss(parameters, context, batch)
        return {"loss": loss, **runs.task.metrics(parameters, context, batch)}

    measure: Callable[..., Tensors] = torch.vmap(figures, randomness="different")
    trained = runs.average or runs.parameters
    seen = [measure(trained, runs.context, runs.draw(split)) for _ in range(batches)]
    means = {name: torch.stack([figures[name] for figures in seen]).mean(0) for name in seen[0]}
    lost = {name: limit if name == "loss" else torch.full_like(limit, math.nan) for name in means}
    return {name: torch.where(runs.diverged, lost[name], mean) for name, mean in means.items()}
