"""Opponents: well-known optimizers with the best of many settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from meta_train.cache import cached
from meta_train.curves import Budget, Curve, Schedule, Setting, curves, stacks
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up
from meta_train.tasks.task import Task
from ngopt.rules import SGDM, Adam, Muon
from ngopt.rules.library import fingerprint
from ngopt.rules.rule import Rule

VERSION = 2
"""To be raised when the same setting no longer gives the same curve."""

FINALISTS = 2
"""Number of settings of each schedule that are tried on all problems after a screening."""


@dataclass(frozen=True)
class Sweep:
    """A rule, and the settings that it is tried with.

    Args:
        name: for tables and curves.
        rule: the rule.
        settings: one or more.
    """

    name: str
    rule: Rule
    settings: tuple[Setting, ...]


def grid(lrs: tuple[float, ...], weight_decays: tuple[float, ...] = (0.0,)) -> tuple[Setting, ...]:
    """Each learning rate with a constant and a cosine schedule and with each weight decay."""
    combinations = product(weight_decays, get_args(Schedule), lrs)
    return tuple(Setting(lr, schedule, decay) for decay, schedule, lr in combinations)


LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates of Adam, and of the rules whose `lr` means what it means for Adam."""

WEIGHT_DECAY = 0.01
"""Of AdamW, as torch has it by default."""

OPPONENTS: dict[str, Callable[[], Sweep]] = {
    "adam": lambda: Sweep("adam", Adam(), grid(LRS)),
    "adamw": lambda: Sweep("adamw", Adam(), grid(LRS, (WEIGHT_DECAY,))),
    "sgdm": lambda: Sweep("sgdm", SGDM(), grid((3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0))),
    # Its update has the RMS of Adam's, so that one learning rate suits matrices and all else.
    "muon": lambda: Sweep(
        "muon", Muon(adjust="match_rms_adamw"), grid((3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1))
    ),
}
"""What makes each opponent."""


def opponent(name: str) -> Sweep:
    """An opponent, by name.

    Raises:
        MetaTrainError: if there is none of that name.
    """
    return look_up(OPPONENTS, name, "opponent")()


@dataclass(frozen=True)
class Tuned:
    """The best setting of a sweep.

    Args:
        setting: the best.
        curve: of the best setting.
        scores: of the settings that were tried on all problems, in the order of the sweep; the
            smallest is the best.
        at_edge: whether the best learning rate is the smallest or largest of several, so that the
            sweep should reach further.
    """

    setting: Setting
    curve: Curve
    scores: tuple[float, ...]
    at_edge: bool


def tuned(
    sweep: Sweep,
    task: Task,
    budget: Budget,
    criterion: str = "train",
    folder: Path | None = None,
    screen: int = 0,
) -> Tuned:
    """Try all settings of a sweep on a task and take the best.

    Args:
        sweep: what to try.
        task: what to train.
        budget: for how long.
        criterion: what is best on average over the problems: `train`, the training loss in the
            last tenth of the steps; `held_out`, the held-out loss at the end; or the name of a
            metric of the task, such as `accuracy`, held-out and the larger the better.
        folder: where results are kept, to be used again; they are not kept by default. It does
            not matter what the sweep is called.
        screen: number of problems on which all settings are tried first; then the best two of
            each schedule are tried on all problems, and the best of these is taken. With 0, all
            settings are tried on all problems.

    Raises:
        MetaTrainError: if the task has no such metric.
    """
    settings = sweep.settings
    if 0 < screen < budget.problems and len(settings) > FINALISTS * len(get_args(Schedule)):
        few = replace(budget, problems=screen)
        found = _curves(sweep.rule, task, settings, few, folder)
        settings = _finalists(settings, [score(curve, criterion) for curve in found])
    found = _curves(sweep.rule, task, settings, budget, folder)
    scores = tuple(score(curve, criterion) for curve in found)
    best = min(range(len(scores)), key=scores.__getitem__)
    lrs = sorted({setting.lr for setting in sweep.settings})
    at_edge = len(lrs) > 1 and settings[best].lr in (lrs[0], lrs[-1])
    return Tuned(settings[best], found[best], scores, at_edge)


def score(curve: Curve, criterion: str) -> float:
    """How bad a curve is by a criterion of :func:`tuned`; infinite if a metric is lost."""
    if criterion == "train":
        return float(curve.final.mean())
    figures: Mapping[str, Any] = curve.measured["held_out"]
    if criterion == "held_out":
        return float(figures["loss"].mean())
    if criterion not in figures:
        metrics = sorted(set(figures) - {"loss"})
        raise MetaTrainError(
            f"nothing can be chosen by `{criterion}`.\n"
            f"  Use one of: {', '.join(['train', 'held_out', *metrics])}."
        )
    value = -float(figures[criterion].mean())
    return math.inf if math.isnan(value) else value


def _curves(
    rule: Rule, task: Task, settings: Sequence[Setting], budget: Budget, folder: Path | None
) -> list[Curve]:
    """The curve of each setting, each in a file, written as soon as its stack is done."""
    label = f"{type(rule).__name__}-{task.name.partition('(')[0]}"
    found: dict[int, Curve] = {}
    for places in stacks(task, settings, budget.problems):
        together = cache(partial(curves, rule, task, [settings[n] for n in places], budget))
        for number, place in enumerate(places):

            def plain(together: Any = together, number: int = number) -> dict[str, Any]:
                curve: Curve = together()[number]
                return curve.plain()

            key = _key(rule, task, settings[place], budget)
            found[place] = Curve.of(cached(folder, label, key, plain))
    return [found[place] for place in range(len(settings))]


def _finalists(settings: Sequence[Setting], scores: Sequence[float]) -> tuple[Setting, ...]:
    """The best of each schedule, in the order of the settings."""
    ranked = sorted(zip(scores, settings, strict=True), key=lambda pair: pair[0])
    chosen = {
        setting
        for schedule in get_args(Schedule)
        for setting in [s for _, s in ranked if s.schedule == schedule][:FINALISTS]
    }
    return tuple(setting for setting in settings if setting in chosen)


def _key(rule: Rule, task: Task, setting: Setting, budget: Budget) -> dict[str, Any]:
    shapes = {name: layout.shape for name, layout in task.graph.parameters.items()}
    return {
        "version": VERSION,
        "task": task.name,
        "shapes": shapes,
        "rule": type(rule).__name__,
        "config": rule.config,
        "theta": fingerprint(rule.state_dict()),
        "setting": asdict(setting),
        "budget": asdict(budget),
    }
