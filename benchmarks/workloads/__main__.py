"""Public kinds of training, each by its own recipe, and with other optimizers in its place.

    python -m benchmarks.workloads                              # all of them: many hours
    python -m benchmarks.workloads char_gpt --optimizers recipe ngopt --seeds 0
    python -m benchmarks.workloads --tiny                       # a few steps of everything
    python -m benchmarks.workloads --only report

Each run of a workload, an optimizer and a seed has a file; what has one is not run again. Killed at
any moment, the same command goes on with the run that was cut short. Typed several times at once,
it shares the runs among the processes. Workloads whose data or packages are missing are left out,
unless they are named.
"""

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from tqdm import tqdm

from benchmarks.workloads import trained
from benchmarks.workloads.discovery import chosen, discovered
from benchmarks.workloads.optimizers import OPTIMIZERS
from benchmarks.workloads.report import report
from benchmarks.workloads.run import Result, run, seed_all
from benchmarks.workloads.workload import Training, Workload
from meta_train.errors import MetaTrainError
from meta_train.shared_files import claim
from ngopt.errors import NgoptError

Name = Literal[tuple(OPTIMIZERS)]
DEFAULTS: tuple[Name, ...] = (
    "recipe",
    "ngopt",
    "swap",
    "muon",
    "soap",
    "schedule_free",
    "nadamw",
    "prodigy",
)
FAILURES = (NgoptError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError)
"""What may go wrong in one run without harm to the others."""
TINY = 4
"""Number of steps when everything is only tried."""


@dataclass(frozen=True)
class Options:
    """Public kinds of training with several optimizers.

    Args:
        names: of workloads; by default all.
        optimizers: who trains them.
        seeds: each gives other weights and another order of data.
        steps: number of them instead of the workload's; schedules keep the recipe's length.
        tiny: a few steps of everything, to try it; results go to `tiny` in the folder.
        again: optimizers whose finished runs are done anew.
        only: of `run` and `report`, what to do.
        threads: of the CPU.
        folder: of results.
        out: the report, with endings `.md`, `.json` and `.png`; by default `report` in the folder.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    optimizers: tuple[Name, ...] = DEFAULTS
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int | None = None
    tiny: bool = False
    again: tuple[Name, ...] = ()
    only: tuple[Literal["run", "report"], ...] = ("run", "report")
    threads: int = 1
    folder: Path = Path("runs/workloads")
    out: Path | None = None


class Session:
    """What one command has to do, and what it met on the way.

    Args:
        options: what to do.
    """

    def __init__(self, options: Options) -> None:
        self.options, self.started = options, time.time()
        self.folder = options.folder / "tiny" if options.tiny else options.folder
        self.steps = TINY if options.tiny else options.steps
        self.left_out: dict[str, str] = {}
        self.failed: list[str] = []

    def workloads(self) -> list[Workload]:
        """Those that were named, or all that can be imported."""
        found, failed = discovered()
        if not self.options.names:
            self.left_out |= {f"{file}.py": str(error) for file, error in failed.items()}
        return chosen(self.options.names, found, failed)

    def run_all(self, workloads: Sequence[Workload]) -> None:
        """Do all runs that are not done yet, seed by seed, so that early reports compare all."""
        trained.shelf.folder = self.options.folder / "trained"
        trained.shelf.steps = TINY if self.options.tiny else None
        todo = [
            (workload, name, seed)
            for seed in self.options.seeds
            for workload in workloads
            for name in self.options.optimizers
        ]
        for workload, name, seed in tqdm(todo, "runs", disable=None):
            if workload.name in self.left_out or name in self.left_out:
                continue
            path = self.folder / workload.name / f"{name}-{seed}.json"
            with claim(path) as free:
                if free and not self.done(path, workload, name):
                    self.one(path, workload, name, seed)

    def done(self, path: Path, workload: Workload, name: str) -> bool:
        """Whether there is a result of as many steps as are wanted now."""
        if not path.is_file():
            return False
        # Another process of the same command may have done it anew meanwhile.
        if name in self.options.again and path.stat().st_mtime < self.started:
            return False
        return Result.read(path).steps == (self.steps or workload.steps)

    def one(self, path: Path, workload: Workload, name: str, seed: int) -> None:
        """Do a run and keep its result; a run that fails is noted."""
        training = self.built(workload, seed)
        if training is None:
            return
        steps = self.steps or workload.steps
        every = min(workload.every, max(1, steps // 2))
        try:
            result = run(workload, training, name, OPTIMIZERS[name], seed, steps, every)
        except ImportError as error:
            self.left_out[name] = str(error)
        except FAILURES as error:
            tqdm.write(traceback.format_exc(), file=sys.stderr)
            self.failed.append(f"{workload.name}, {name}, seed {seed}: {error}")
        else:
            result.write(path)
            tqdm.write(
                f"{workload.name}, {name}, seed {seed}: {workload.metric} {result.metrics[-1]} "
                f"after {result.at[-1]} steps in {result.seconds[-1]:.1f} s"
            )

    def built(self, workload: Workload, seed: int) -> Training | None:
        """A fresh run; None if data or a package is missing, unless the workload was named."""
        seed_all(seed)
        try:
            return workload.build(seed)
        except (ImportError, MetaTrainError, FileNotFoundError) as error:
            if workload.name in self.options.names:
                raise
            self.left_out[workload.name] = str(error)
            return None


def do(options: Options) -> int:
    """Run and report; returns how many runs failed.

    Args:
        options: what to do.
    """
    torch.set_num_threads(options.threads)
    session = Session(options)
    workloads = session.workloads()
    if "run" in options.only:
        session.run_all(workloads)
    if "report" in options.only:
        report(workloads, session.folder, options.out or session.folder / "report")
    for name, why in session.left_out.items():
        print(f"Left out: {name}. {why}")
    for failure in session.failed:
        print(f"Failed: {failure}")
    return len(session.failed)


def main() -> None:
    """Read the options and do it."""
    sys.exit(min(1, do(tyro.cli(Options, description=__doc__))))


if __name__ == "__main__":
    main()
