"""Ablation of the default rule: parts taken away one by one, at equal meta-training.

    python -m benchmarks.ablation --steps 200 --suites near kin far

All variants are meta-trained for as many outer steps on the same tasks from the same seeds, and
compared, untuned, with tuned AdamW on the suites of the evaluation. Killed at any moment, the same
command goes on. Several processes share the work if each is given some of the `--variants`, and one
of them makes the tables in the end with `--only table`. Results of AdamW that `python -m meta_train
evaluate` has kept are used again with its `--cache`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias

import tyro

from benchmarks.pieces import Figures, Piece, collected, with_options, write
from meta_train.baselines import Sweep, opponent
from meta_train.comparison import Row, Summary, Trial, compare, summaries
from meta_train.curves import Setting
from meta_train.distributed import world
from meta_train.errors import MetaTrainError
from meta_train.evaluate import EvaluateOptions, trials
from meta_train.presets import PRESETS
from meta_train.rules import rule_of
from meta_train.spec import look_up
from meta_train.table import table_lines
from ngopt.rules.rule import Rule

BASE = "base"
REFERENCE = "adamw"

VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "graph-off": {"graph_context": False},
    "rounds-0": {"rounds": 0},
    "rounds-1": {"rounds": 1},
    "rounds-2": {"rounds": 2},
    "positions-none": {"positions": ()},
    "momenta-float32": {"momentum_dtype": "float32"},
    "momenta-bfloat16": {"momentum_dtype": "bfloat16"},
    "squares-bfloat16": {"square_dtype": "bfloat16"},
    "state-float32": {"momentum_dtype": "float32", "square_dtype": "float32"},
    "statistics-off": {"neuron_statistics": False},
    "fan-scaling-off": {"base_update": {"fan_power": 0.0}},
    "weight-scaling-off": {"base_update": {"weight_reference": 0.0}},
    "slow-momentum-off": {"base_update": {"slow": 0.0}},
    "gradient-off": {"base_update": {"nesterov": 0.0}},
    "orthogonalization-off": {"base_update": {"orthogonal": 0}},
    "equal-rows-off": {"base_update": {"equal_rows": False}},
    "depth-scaling-off": {"base_update": {"depth_power": 0.0}},
    "ageing-off": {"base_update": {"age_power": 0.0}},
    "late-ageing-off": {"base_update": {"late_power": 0.0}},
    "evidence-off": {"base_update": {"evidence_least": 1.0}},
    "fading-off": {"base_update": {"trust_power": 0.0}},
    "scale-off": {"base_update": {"scale_bound": 0.0}},
    "direction-off": {"base_update": {"trust": 0.0}},
}
"""Changes to the options of the rule. Those that change nothing of the preset's are left out."""

Phase = Literal["meta-train", "evaluate", "table"]
Seeds: TypeAlias = dict[int | None, list[Row]]
"""Rows by meta-seed."""


@dataclass(frozen=True)
class Options:
    """What each part of the default rule is good for.

    Args:
        preset: configuration of the meta-training.
        rule: the rule to take parts from; by default the preset's.
        steps: number of outer steps; by default the preset's.
        variants: what to change; by default all there are.
        seeds: of meta-training; each variant is meta-trained once with each.
        suites: of `near`, `kin`, `far`, `large`, `validation` and `transfer`.
        tasks: more tasks to evaluate on.
        inner_steps: of the evaluation; by default those of each suite.
        problems: of the evaluation; by default those of each suite.
        screen: number of problems on which all settings of AdamW are tried first.
        only: of `meta-train`, `evaluate` and `table`, what to do.
        folder: of runs, results and figures; by default `runs/ablation-` and the preset.
        cache: of results; by default in the folder.
        out: what to write, with endings `.json` and `.md`; by default `results/ablation-` and the
            preset.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    preset: str = "default"
    rule: str | None = None
    steps: int | None = None
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0,)
    suites: tuple[str, ...] = ("near", "kin", "far", "large")
    tasks: tuple[str, ...] = ()
    inner_steps: int | None = None
    problems: int | None = None
    screen: int = 1
    only: tuple[Phase, ...] = ("meta-train", "evaluate", "table")
    folder: Path | None = None
    cache: Path | None = None
    out: Path | None = None
    device: str = "auto"


def run(options: Options) -> None:
    """Do what is left to do."""
    folder = options.folder or Path("runs") / f"ablation-{options.preset}"
    pieces = variants(options, folder)
    if "meta-train" in options.only:
        for piece in pieces:
            piece.meta_train()
    if "evaluate" in options.only:
        with world(options.device) as processes:
            for trial in _trials(options):
                moved = replace(trial, task=trial.task.to(processes.device))
                cache = options.cache or folder / "cache"
                evaluate(moved, pieces, folder / "figures", cache, options.screen)
    if "table" in options.only:
        found = collected(folder / "figures")
        out = options.out or Path("results") / f"ablation-{options.preset}"
        write(out, {"options": asdict(options), "found": found}, markdown(found))


def variants(options: Options, folder: Path) -> list[Piece]:
    """The pieces: each variant that differs from the base, with each seed.

    Raises:
        MetaTrainError: if there is no such preset or variant.
    """
    config = look_up(PRESETS, options.preset, "preset")
    config = config if options.steps is None else replace(config, steps=options.steps)
    config = config if options.rule is None else replace(config, rule=options.rule)
    base = rule_of(config.rule).config
    pieces = []
    for name in options.variants:
        rule = with_options(config.rule, look_up(VARIANTS, name, "variant"))
        built = rule_of(rule)
        if name != BASE and built.config == base:
            continue
        changed = replace(config, rule=rule, frozen=_shared(config.frozen, built))
        pieces += [Piece.of(name, s, changed, folder, options.device) for s in options.seeds]
    return pieces


def _shared(frozen: Sequence[str], rule: Rule) -> tuple[str, ...]:
    """What stays frozen of a rule that may lack a part."""
    weights = [name for name, _ in rule.named_parameters()]
    return tuple(part for part in frozen if any(name.startswith(part) for name in weights))


def _trials(options: Options) -> list[Trial]:
    return trials(
        EvaluateOptions(
            rule=(),
            suites=options.suites,
            tasks=options.tasks,
            steps=options.inner_steps,
            problems=options.problems,
        )
    )


def evaluate(trial: Trial, pieces: Sequence[Piece], folder: Path, cache: Path, screen: int) -> None:
    """Compare all pieces that are meta-trained with the reference on a task; keep the figures."""
    reference = opponent(REFERENCE)
    reference.rule.to(trial.task.device)
    for piece in pieces:
        found = piece.finished()
        if found is None:
            print(f"{piece.method}, seed {piece.seed}: not meta-trained yet.")
            continue
        rule, facts = found
        sweep = Sweep(
            piece.method, rule.to(trial.task.device), (Setting(rule.lr, weight_decay=None),)
        )
        for comparison in compare([reference, sweep], [trial], "train", cache, screen):
            theirs, ours = comparison.rows
            Figures(folder / f"{REFERENCE}.json", reference.rule, {"method": REFERENCE}).add(
                trial.name, asdict(theirs)
            )
            name = f"{piece.method}-{piece.seed}"
            Figures(folder / f"{name}.json", rule, facts).add(trial.name, asdict(ours))
            print(f"{trial.name}: {name}: {ours.train:.4f}, speed-up {ours.speed_up:.2f}")


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """A table for each suite.

    Args:
        found: contents of the files of figures.

    Raises:
        MetaTrainError: if the base is not among them.
    """
    rows: dict[str, Seeds] = {}
    for name in (REFERENCE, *VARIANTS):
        contents = [content for content in found if content["method"] == name]
        if contents:
            rows[name] = {content.get("seed"): _rows(content) for content in contents}
    if BASE not in rows:
        raise MetaTrainError("the base is not evaluated yet.\n  Do that first: --variants base.")
    suites = list(dict.fromkeys(row.suite for row in next(iter(rows[BASE].values()))))
    facts = next(content for content in found if content["method"] == BASE)
    lines = [
        "# Ablation",
        "",
        f"`{facts['rule']}` and variants of it, each meta-trained for {facts['outer_steps']:,} "
        f"outer steps ({facts['inner_steps']:,} inner steps) on the same tasks; means over "
        f"{len(rows[BASE])} meta-seed(s). Rules untuned, AdamW with its best learning rate and "
        "schedule for each task. Interquartile means over tasks of the training loss (in units of "
        "the untrained model's) and of the speed-up over AdamW. Loss against base: geometric mean "
        "over the tasks that both have; less is better, and ± is the standard deviation over "
        "meta-seeds.",
    ]
    for suite in suites:
        lines += ["", f"## {suite or 'tasks'}", "", *_suite(suite, rows)]
    return "\n".join([*lines, ""])


def _rows(content: Mapping[str, Any]) -> list[Row]:
    figures = content["figures"].values()
    return [Row.of(plain) for plain in figures]


def _suite(suite: str, rows: Mapping[str, Seeds]) -> list[str]:
    base = {seed: _in_suite(found, suite) for seed, found in rows[BASE].items()}
    lines = []
    for name, seeds in rows.items():
        own = {seed: kept for seed, found in seeds.items() if (kept := _in_suite(found, suite))}
        if not own:
            continue
        found = [summaries(list(by_task.values()))[0] for by_task in own.values()]
        # The reference has no meta-seed, and is compared with each of the base.
        beside = {seed: own.get(seed, own.get(None)) for seed in base}
        against = [100 * (_ratio(mine, base[s]) - 1) for s, mine in beside.items() if mine]
        lines.append(
            [
                name,
                str(found[0].tasks),
                f"{_mean(found, 'relative_train'):.4f}",
                f"{_mean(found, 'speed_up'):.2f}",
                _percent(against),
                *(f"{_mean(found, key):g}" for key in ("worse", "stalled", "diverged")),
            ]
        )
    head = ["", "tasks", "train loss", "speed-up", "loss against base"]
    return table_lines([*head, "worse", "stalled", "diverged"], lines)


def _percent(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):+.1f}{spread} %"


def _in_suite(rows: Sequence[Row], suite: str) -> dict[str, Row]:
    """Rows of a suite by task."""
    return {row.task: row for row in rows if row.suite == suite}


def _ratio(own: Mapping[str, Row], base: Mapping[str, Row]) -> float:
    """Geometric mean of the ratios of the final training losses, on the tasks of both."""
    shared = own.keys() & base.keys()
    return math.exp(fmean(math.log(own[task].train / base[task].train) for task in shared))


def _mean(found: Sequence[Summary], key: str) -> float:
    return fmean(getattr(summary, key) for summary in found)


def main() -> None:
    """Read the options and run."""
    run(tyro.cli(Options, description=__doc__))


if __name__ == "__main__":
    main()
