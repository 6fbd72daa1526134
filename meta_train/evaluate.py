"""The command `evaluate`: rules against tuned opponents, as tables, a picture and JSON."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import tyro
from tqdm import tqdm

from meta_train import table
from meta_train.baselines import LRS, Sweep, grid, opponent
from meta_train.comparison import Comparison, Trial, compare
from meta_train.curves import Budget, Setting
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.plot import plot, plot_speed_ups
from meta_train.provenance import command
from meta_train.rules import rule_of
from meta_train.shared_files import usable_folder
from meta_train.suites import suite
from meta_train.tasks.family import family_of
from ngopt.rules.rule import Rule

STEPS, PROBLEMS = 500, 3
"""Of tasks that are in no suite."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Compare rules, untuned, with well-known optimizers tuned on each task.

    Killed at any moment, the same command goes on after the last result that is in the cache; the
    files are there from the first task on.

    Args:
        rule: rules, or none to have the opponents' results in the cache beforehand: a class with
            options, such as `MatrixGNN:rounds=1`; a name that ngopt knows; a `.safetensors` file;
            or the folder of a run, whose newest theta is taken.
        suites: of `near`, `kin`, `far`, `large`, `validation` and `transfer`: sets of tasks, each
            with its own number of steps and problems.
        tasks: more tasks: families with options, as for training.
        draws: number of tasks to draw from each family of `tasks`; equal ones count once.
        opponents: of `adamw`, `adam`, `sgdm`, `muon`, `muon_adamw`, `nadamw`, `soap` and
            `schedule_free`, each with the best of its settings, at most 14; and of
            `celo:weights=FILE`, which has but one. The first is the reference: the speed of the
            others is that of getting to its final loss.
        screen: number of problems on which all settings of a sweep are tried first; only the best
            two of each schedule are then tried on all problems. With 0, all settings are.
        steps: number of inner steps; by default those of each suite, and 500 for `tasks`.
        problems: number of runs with each setting, on the same batches for all; by default those
            of each suite, and 3 for `tasks`.
        seed: of tasks, problems and batches.
        lr: learning rate of the rules, constant; by default the one each was meta-trained at.
        sweep: whether to show the rules a second time, with the learning rates and schedules that
            Adam is given.
        weight_decay: of the rules, untuned; by default their own.
        criterion: by which settings are chosen: `train` (loss), `held_out` (loss), or a metric of
            the tasks, such as `accuracy` (held-out).
        out: folder for `evaluation.json`, `evaluation.md`, `curves.png` and `speed_ups.png`.
        cache: folder of results to be used again; by default `cache` in `out`.
        imports: modules to import first, which register families or rules of your own.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    rule: tuple[str, ...] = ("default",)
    # Of old, they were called rings.
    suites: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--rings",))] = ()
    tasks: tuple[str, ...] = ()
    draws: int = 1
    opponents: tuple[str, ...] = ("adamw",)
    screen: int = 0
    steps: int | None = None
    problems: int | None = None
    seed: int = 0
    lr: float | None = None
    weight_decay: float | None = None
    sweep: bool = False
    criterion: str = "train"
    out: Path = Path("evaluation")
    cache: Path | None = None
    imports: tuple[str, ...] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        rates = (self.lr is None or self.lr > 0) and (self.weight_decay or 0.0) >= 0
        if not (self.opponents and self.draws >= 1 and self.screen >= 0 and rates):
            raise MetaTrainError(
                f"cannot evaluate with opponents={self.opponents}, draws={self.draws}, "
                f"screen={self.screen}, lr={self.lr}, weight_decay={self.weight_decay}.\n"
                "  Give at least one opponent, draws >= 1, screen >= 0, lr > 0, weight_decay >= 0."
            )
        if not (self.suites or self.tasks):
            raise MetaTrainError(
                "there is nothing to evaluate on.\n"
                "  Give --suites (near, kin, far, ...), or --tasks, as in --tasks mlp:width=32."
            )


def run_evaluate(options: EvaluateOptions, echo: Callable[[str], None] = tqdm.write) -> None:
    """Evaluate, show the tables, and write the files.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    usable_folder(options.out)
    shown = 0
    for comparison in evaluate(options):
        for row in comparison.rows[shown:]:
            echo(table.line(row))
        shown = len(comparison.rows)
        text = table.markdown(comparison)
        (options.out / "evaluation.json").write_text(as_json(comparison, options))
        (options.out / "evaluation.md").write_text(text, encoding="utf-8")
    echo(f"\n{text}")
    if find_spec("matplotlib"):
        plot(comparison.curves, options.out / "curves.png")
        plot_speed_ups(comparison, options.out / "speed_ups.png")
    else:
        echo('No picture of the curves: for that, pip install "ngopt[draw]".')
    echo(
        f"Written to {options.out}: evaluation.md has the tables, evaluation.json all figures.\n"
        f"  Put them on the card of a rule:  python -m meta_train export RUN FILE --results "
        f"{options.out / 'evaluation.json'}"
    )


def evaluate(options: EvaluateOptions) -> Iterator[Comparison]:
    """Compare rules with opponents.

    Args:
        options: everything there is to choose.

    Yields:
        After each task, the comparison as far as it is.
    """
    for module in options.imports:
        importlib.import_module(module)
    with world(options.device) as processes:
        sweeps = contestants(options)
        for sweep in sweeps:
            if isinstance(sweep.rule, Rule):
                sweep.rule.to(processes.device)
        moved = [replace(trial, task=trial.task.to(processes.device)) for trial in trials(options)]
        folder = options.cache or options.out / "cache"
        yield from compare(sweeps, moved, options.criterion, folder, options.screen)


def contestants(options: EvaluateOptions) -> list[Sweep]:
    """Opponents, then the rules untuned, then, if asked for, the rules tuned."""
    rules = {text: rule_of(text) for text in options.rule}
    untuned = []
    for text, rule in rules.items():
        lr = rule.lr if options.lr is None else options.lr
        untuned.append(Sweep(text, rule, (Setting(lr, weight_decay=options.weight_decay),)))
    swept = [Sweep(f"{text}, tuned", rule, grid(LRS)) for text, rule in rules.items()]
    return [*map(opponent, options.opponents), *untuned, *(swept if options.sweep else ())]


def trials(options: EvaluateOptions) -> list[Trial]:
    """The tasks of the suites, then those drawn from families, without what is there already."""

    def budget(steps: int, problems: int) -> Budget:
        return Budget(
            steps if options.steps is None else options.steps,
            problems if options.problems is None else options.problems,
            options.seed,
        )

    found = [
        Trial(entry.task(), budget(entry.steps, entry.problems), name)
        for name in options.suites
        for entry in suite(name)
    ]
    generator = torch.Generator().manual_seed(options.seed)
    for family in map(family_of, options.tasks):
        found += [
            Trial(family.sample(generator), budget(STEPS, PROBLEMS)) for _ in range(options.draws)
        ]
    return list({trial.name: trial for trial in found}.values())


def as_json(comparison: Comparison, options: EvaluateOptions) -> str:
    """Comparison, options and command as JSON text; figures that are not finite become null."""
    plain = {
        "command": command(),
        "options": asdict(options),
        **asdict(comparison),
    }
    text = json.dumps(plain, default=str)
    return json.dumps(json.loads(text, parse_constant=_absent), indent=1, allow_nan=False)


def _absent(constant: str) -> None:
    return None
