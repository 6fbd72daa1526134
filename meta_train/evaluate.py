"""The command `evaluate`: rules against tuned opponents, as tables, a picture and JSON."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from tqdm import tqdm

from meta_train import table
from meta_train.baselines import LRS, Sweep, grid, opponent
from meta_train.command import command
from meta_train.comparison import Comparison, Row, compare
from meta_train.curves import Budget, Setting
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.plot import plot
from meta_train.rules import rule_of
from meta_train.tasks.family import family_of
from meta_train.tasks.task import Task


@dataclass(frozen=True)
class EvaluateOptions:
    """Compare rules, untuned, with well-known optimizers tuned on each task.

    Args:
        rule: one or more: a class with options, such as `MatrixGNN:rounds=1`; a name that ngopt
            knows; a `.safetensors` file; or the folder of a run, whose newest theta is taken.
        tasks: families with options, as for training.
        draws: number of tasks to draw from each family; equal ones count once.
        opponents: of `adamw`, `adam`, `sgdm` and `muon`, each with the best of its learning rates
            (and weight decays) with a constant or cosine schedule. The first is the reference: the
            speed of the others is that of getting to its final loss.
        steps: number of inner steps.
        problems: number of runs with each setting, on the same batches for all.
        seed: of tasks, problems and batches.
        lr: learning rate of the rules, constant; by default the one each was meta-trained at.
        sweep: whether to show the rules a second time, with the learning rates and schedules that
            Adam is given.
        criterion: by which settings are chosen: `train` (loss), `held_out` (loss), or a metric of
            the tasks, such as `accuracy` (held-out).
        out: folder for `evaluation.json`, `evaluation.md` and `curves.png`.
        cache: folder of results to be used again; by default `cache` in `out`.
        imports: modules to import first, which register families or rules of your own.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    rule: tuple[str, ...] = ("default",)
    tasks: tuple[str, ...] = ("mlp",)
    draws: int = 1
    opponents: tuple[str, ...] = ("adamw",)
    steps: int = 500
    problems: int = 4
    seed: int = 0
    lr: float | None = None
    sweep: bool = False
    criterion: str = "train"
    out: Path = Path("evaluation")
    cache: Path | None = None
    imports: tuple[str, ...] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        if not (self.rule and self.tasks and self.opponents and self.draws >= 1) or (
            self.lr is not None and self.lr <= 0
        ):
            raise MetaTrainError(
                f"cannot evaluate with rule={self.rule}, tasks={self.tasks}, opponents="
                f"{self.opponents}, draws={self.draws}, lr={self.lr}.\n"
                "  Give at least one rule, task and opponent, draws >= 1, and lr > 0."
            )


def run_evaluate(options: EvaluateOptions, echo: Callable[[str], None] = tqdm.write) -> None:
    """Evaluate, show the tables, and write the files.

    Args:
        options: everything there is to choose.
        echo: shows a line of text.
    """
    comparison = evaluate(options, lambda row: echo(table.line(row)))
    text = table.markdown(comparison)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "evaluation.json").write_text(as_json(comparison, options))
    (options.out / "evaluation.md").write_text(text, encoding="utf-8")
    echo(f"\n{text}")
    if find_spec("matplotlib"):
        plot(comparison.curves, options.out / "curves.png")
    else:
        echo('No picture of the curves: for that, pip install "ngopt[draw]".')
    echo(f"Written to {options.out}.")


def evaluate(
    options: EvaluateOptions, told: Callable[[Row], None] = lambda row: None
) -> Comparison:
    """Compare rules with opponents.

    Args:
        options: everything there is to choose.
        told: hears of each row of the tables as soon as it is there.
    """
    for module in options.imports:
        importlib.import_module(module)
    with world(options.device) as processes:
        sweeps = contestants(options)
        for sweep in sweeps:
            sweep.rule.to(processes.device)
        tasks = [task.to(processes.device) for task in drawn(options)]
        budget = Budget(options.steps, options.problems, options.seed)
        folder = options.cache or options.out / "cache"
        return compare(sweeps, tasks, budget, options.criterion, folder, told)


def contestants(options: EvaluateOptions) -> list[Sweep]:
    """Opponents, then the rules untuned, then, if asked for, the rules tuned."""
    rules = {text: rule_of(text) for text in options.rule}
    untuned = [
        Sweep(text, rule, (Setting(rule.lr if options.lr is None else options.lr),))
        for text, rule in rules.items()
    ]
    swept = [Sweep(f"{text}, tuned", rule, grid(LRS)) for text, rule in rules.items()]
    return [*map(opponent, options.opponents), *untuned, *(swept if options.sweep else ())]


def drawn(options: EvaluateOptions) -> Sequence[Task]:
    """The tasks, without those of a name that is there already."""
    generator = torch.Generator().manual_seed(options.seed)
    tasks: dict[str, Task] = {}
    for family in map(family_of, options.tasks):
        for _ in range(options.draws):
            task = family.sample(generator)
            tasks.setdefault(task.name, task)
    return list(tasks.values())


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
