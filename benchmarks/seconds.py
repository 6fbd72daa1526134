"""Speed-up in seconds: that in steps, divided by what a whole training step costs.

    python -m benchmarks.seconds runs/evaluate/evaluation.json

reads what `python -m meta_train evaluate` has written. On each task of a suite, the rules and AdamW
train the same model, in turns, on one batch. Left out are other opponents than Muon with AdamW, and
tasks that are no models on data, such as the sine network.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from torch import nn
from torch.optim import AdamW

from benchmarks.contestant import Build
from benchmarks.pieces import write
from benchmarks.step import LR, Case, measure, muon, threads
from meta_train.comparison import Row, interquartile_mean
from meta_train.errors import MetaTrainError
from meta_train.rules import rule_of
from meta_train.suites import SUITES
from meta_train.table import table_lines
from meta_train.tasks.model_task import ModelTask
from ngopt import NeuralGraphOptimizer

REFERENCE = "adamw"

OPPONENTS: dict[str, Build] = {
    REFERENCE: lambda model: [AdamW(model.parameters(), LR, foreach=True)],
    "muon_adamw": muon,
}
"""Contestants that are no rules."""


@dataclass(frozen=True)
class Options:
    """Speed-up in seconds.

    Args:
        evaluation: file of an evaluation, with `adamw` as the reference.
        rounds: how often each contestant has its turn.
        threads: of the CPU.
        device: `cpu` or `cuda`.
        out: what to write, with endings `.json` and `.md`.
    """

    evaluation: tyro.conf.Positional[Path]
    rounds: int = 5
    threads: int = 1
    device: str = "cpu"
    out: Path = Path("results/seconds")


@dataclass(frozen=True)
class Speed:
    """How fast a contestant is on a task.

    Args:
        suite: the suite of the task.
        task: its name.
        contestant: the contestant.
        steps: speed-up in steps.
        cost: seconds of a training step (forward pass, backward pass, step), in units of AdamW's.
        seconds: speed-up in seconds.
    """

    suite: str
    task: str
    contestant: str
    steps: float
    cost: float
    seconds: float


def build_of(contestant: str) -> Build | None:
    """What builds a contestant of an evaluation; None if it is unknown here."""
    if contestant in OPPONENTS:
        return OPPONENTS[contestant]
    try:
        rule = rule_of(contestant)
    except MetaTrainError:
        return None
    return lambda model: [NeuralGraphOptimizer(model, LR, rule=rule)]


def case_of(task: ModelTask) -> Case:
    """A task as something to time."""

    def batch() -> tuple[torch.Tensor, ...]:
        drawn = task.batches({}, 1, torch.Generator().manual_seed(0))
        return tuple(tensor[0] for tensor in drawn)

    def objective(model: nn.Module, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        *inputs, targets = given
        return task.criterion(model(*inputs), targets)

    return Case(task.name, lambda: task.module, batch, objective)


def speeds(rows: Sequence[Row], options: Options) -> Iterator[Speed]:
    """Measure on each task."""
    builds = {row.contestant: build_of(row.contestant) for row in rows}
    known = {REFERENCE: OPPONENTS[REFERENCE]} | {k: b for k, b in builds.items() if b is not None}
    for suite in dict.fromkeys(row.suite for row in rows):
        for entry in SUITES.get(suite, ()):
            task = entry.task()
            own = {r.contestant: r for r in rows if (r.suite, r.task) == (suite, task.name)}
            if not own or not isinstance(task, ModelTask):
                continue
            field = {name: build for name, build in known.items() if name in {*own, REFERENCE}}
            for figures in measure(case_of(task), field, options.rounds, options.device):
                row = own.get(figures.contestant)
                if row is None or row.contestant == REFERENCE:
                    continue
                cost = figures.whole_ratio
                yield Speed(
                    suite, task.name, row.contestant, row.speed_up, cost, row.speed_up / cost
                )


def markdown(found: Sequence[Speed], options: Options) -> str:
    """Means over suites, then all tasks."""
    groups = dict.fromkeys((speed.suite, speed.contestant) for speed in found)
    means = []
    for suite, contestant in groups:
        own = [s for s in found if (s.suite, s.contestant) == (suite, contestant)]
        figures = ([getattr(s, key) for s in own] for key in ("steps", "cost", "seconds"))
        means.append([suite, f"`{contestant}`", *(f"{interquartile_mean(f):.2f}" for f in figures)])
    rows = [
        [
            s.suite,
            s.task,
            f"`{s.contestant}`",
            f"{s.steps:.2f}",
            f"{s.cost:.2f}",
            f"{s.seconds:.2f}",
        ]
        for s in found
    ]
    head = ["suite", "contestant", "speed-up in steps", "cost of a training step", "in seconds"]
    return "\n".join(
        [
            "# Speed-up in seconds",
            "",
            f"{options.device}, {options.threads} thread(s), torch {torch.__version__}; "
            "interquartile means over the tasks of a suite; AdamW (foreach) is 1. Costs are "
            f"medians of {options.rounds} rounds in turns, for the first 1,000 steps. "
            "Opponents and tasks that are not in the tables cannot be timed.",
            "",
            *table_lines(head, means),
            "",
            *table_lines(["suite", "task", *head[1:]], rows),
            "",
        ]
    )


def run(options: Options) -> list[Speed]:
    """Measure, and write the tables."""
    content = json.loads(options.evaluation.read_text("utf-8"))
    rows = [Row.of(plain) for plain in content["rows"]]
    with threads(options.threads):
        found = list(speeds(rows, options))
    plain = {"options": asdict(options), "found": [asdict(speed) for speed in found]}
    write(options.out, plain, markdown(found, options))
    return found


if __name__ == "__main__":
    run(tyro.cli(Options, description=__doc__))
