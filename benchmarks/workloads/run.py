"""One run of a workload with an optimizer, and its result in a file."""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from benchmarks.workloads.optimizers import Build
from benchmarks.workloads.workload import Training, Workload
from meta_train.provenance import command, commit

EARLY = 50
"""Number of steps in which a rise of the loss is a bad start."""
CALIBRATION = 50
"""Number of batches for the averages of batch normalization, as schedule-free's README has it."""
DIGITS = 6
"""Digits of a loss that are kept."""


@dataclass(frozen=True)
class Result:
    """What is kept of a run. Losses and metrics that are not finite are None.

    Args:
        workload: its name.
        optimizer: its name.
        seed: of weights and batches.
        steps: number of steps asked for.
        losses: before each step.
        at: numbers of steps after which the metric was taken.
        metrics: at each of them.
        seconds: spent in steps until each of them, without evaluations.
        early: see :func:`early_rise`.
        diverged: the step whose loss was not finite, which ended the run; None for a whole run.
        clock: `process` for seconds of the CPU, as they are with one thread, or `wall`.
        command: what was typed.
        commit: of ngopt.
        torch: its version.
    """

    workload: str
    optimizer: str
    seed: int
    steps: int
    losses: list[float | None]
    at: list[int]
    metrics: list[float | None]
    seconds: list[float]
    early: float | None
    diverged: int | None
    clock: str
    command: str
    commit: str | None
    torch: str

    def write(self, path: Path) -> None:
        """Write it as JSON, all or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), allow_nan=False))
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Read what :meth:`write` wrote."""
        return cls(**json.loads(path.read_text()))


def run(
    workload: Workload,
    training: Training,
    name: str,
    build: Build,
    seed: int,
    steps: int,
    every: int,
) -> Result:
    """Train for some steps, or until the loss is not finite.

    Args:
        workload: the kind of training.
        training: a fresh run of it.
        name: of the optimizer.
        build: makes one for each of the models.
        seed: that the training was built from.
        steps: number of them.
        every: number of steps from one evaluation to the next; there is one at the end anyway.
    """
    built = [build(model, recipe, steps) for model, recipe in training.recipes]
    optimizers = [optimizer for optimizer, _ in built]
    schedules = [LambdaLR(o, schedule) for o, schedule in built if schedule is not None]
    # Building optimizers may draw random numbers; dropout is to be the same for all of them.
    seed_all(seed)
    losses: list[float] = []
    at: list[int] = []
    metrics: list[float | None] = []
    seconds: list[float] = []
    single = torch.get_num_threads() == 1
    # Other programs on the machine take seconds too, but not the CPU seconds of this one.
    clock = time.process_time if single else time.perf_counter
    spent, diverged = 0.0, None
    label = f"{workload.name}, {name}, {seed}"
    for step in tqdm(range(1, steps + 1), label, leave=False, disable=None):  # not in log files
        started = clock()
        losses.append(training.step(optimizers))
        for schedule in schedules:
            schedule.step()
        spent += clock() - started
        if not math.isfinite(losses[-1]):
            diverged = step
        if step % every == 0 or step == steps or diverged:
            at.append(step)
            metrics.append(None if diverged else _finite(_metric(training, optimizers)))
            seconds.append(round(spent, 4))
        if diverged:
            break
    return Result(
        workload=workload.name,
        optimizer=name,
        seed=seed,
        steps=steps,
        losses=[_finite(loss) for loss in losses],
        at=at,
        metrics=metrics,
        seconds=seconds,
        early=early_rise(losses),
        diverged=diverged,
        clock="process" if single else "wall",
        command=command(),
        commit=_commit(),
        torch=torch.__version__,
    )


def early_rise(losses: Sequence[float]) -> float | None:
    """The largest of the first losses over the very first.

    None if the first is not positive, as losses with a sign of their own may be, or one of them
    is not finite.

    >>> early_rise([2.0, 3.0, 1.0])
    1.5
    """
    first = losses[:EARLY]
    if not all(map(math.isfinite, first)) or first[0] <= 0:
        return None
    return _finite(max(first) / first[0])


def seed_all(seed: int) -> None:
    """Seed all generators that a training may draw from without one of its own."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


@cache  # the code at work is the one that was there in the beginning
def _commit() -> str | None:
    return commit()


def _metric(training: Training, optimizers: Sequence[Optimizer]) -> float:
    with evaluating(training, optimizers):
        return training.metric()


@contextmanager
def evaluating(training: Training, optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Give the weights to be evaluated, where an optimizer has others to train with."""
    switched: list[Any] = [o for o in optimizers if hasattr(o, "eval") and hasattr(o, "train")]
    for optimizer in switched:
        optimizer.eval()
    if switched:
        _calibrate(training)
    try:
        yield
    finally:
        for optimizer in switched:
            optimizer.train()


@torch.no_grad()
def _calibrate(training: Training) -> None:
    """Take the averages of batch normalization at the weights that are to be evaluated."""
    if type(training).loss is Training.loss:
        return  # it takes its own steps, and has no batch to give
    modules = [module for model, _ in training.recipes for module in model.modules()]
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        for _ in range(CALIBRATION):
            training.loss()


def _finite(value: float) -> float | None:
    """A number rounded for a file."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
