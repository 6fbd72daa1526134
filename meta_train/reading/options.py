"""How networks that read networks are trained: options of all tasks, and the optimizer."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.zoo.store import Zoo
from ngopt.optim.optimizer import NeuralGraphOptimizer


@dataclass(frozen=True)
class FitOptions:
    """How a network that reads networks is trained.

    Args:
        epochs: number of times that each network of the training split is read.
        minutes: train for so long instead, evaluations not counted; 0 for `epochs`.
        batch: networks per step.
        lr: largest learning rate; by default 1e-3, and of `ngopt` that of its rule.
        warmup: number of steps until it is reached, at most a fifth of the run.
        final: learning rate at the end, as a fraction of the largest, along half a cosine.
        weight_decay: decoupled weight decay.
        clip: largest norm of a gradient; longer ones are shortened.
        optimizer: `adamw`, or `ngopt` for `ngopt.NeuralGraphOptimizer`.
        evaluations: how often the validation split is scored, evenly over the run. The state that
            is best there is kept; test data choose nothing.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    epochs: float = 20
    minutes: float = 0.0
    batch: int = 128
    lr: float | None = None
    warmup: int = 100
    final: float = 0.0
    weight_decay: float = 5e-4
    clip: float = 10.0
    optimizer: Literal["adamw", "ngopt"] = "adamw"
    evaluations: int = 10
    device: str = "auto"

    def __post_init__(self) -> None:
        sane = min(self.batch, self.evaluations) >= 1 and min(self.warmup, self.minutes) >= 0
        sane = sane and self.epochs > 0 and self.weight_decay >= 0 and 0 <= self.final <= 1
        if not (sane and self.clip > 0 and (self.lr is None or self.lr > 0)):
            raise MetaTrainError(
                f"{self} makes no sense.\n  Use epochs > 0, minutes >= 0, batch >= 1, lr > 0, "
                "warmup >= 0, 0 <= final <= 1, weight_decay >= 0, clip > 0, evaluations >= 1."
            )


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of all commands that compare encoders.

    Args:
        seeds: of first weights, batches and dropout; each encoder is trained with each.
        resamples: of the runs of the test split, for intervals.
        report: only write the reports of what is there.
        imports: modules to import first, which define encoders of your own.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    resamples: int = 1000
    report: bool = False
    imports: tuple[str, ...] = ()

    def open(self, zoo: Path) -> Zoo:
        """Open a zoo, once what encoders need is imported."""
        for module in self.imports:
            importlib.import_module(module)
        return Zoo.open(zoo)


def optimizer_of(module: nn.Module, options: FitOptions) -> torch.optim.Optimizer:
    """Make the optimizer of a module, at its largest learning rate."""
    if options.optimizer == "ngopt":
        return NeuralGraphOptimizer(module, options.lr, weight_decay=options.weight_decay)
    return torch.optim.AdamW(
        module.parameters(), options.lr or 1e-3, weight_decay=options.weight_decay
    )
