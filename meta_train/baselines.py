"""Opponents: well-known optimizers with the best of many settings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from meta_train.cache import cached
from meta_train.curves import Budget, Curve, Schedule, Setting, curves
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up
from meta_train.tasks.task import Task
from ngopt.rules import SGDM, Adam, Muon
from ngopt.rules.library import fingerprint
from ngopt.rules.rule import Rule

VERSION = 1
"""To be raised when the same sweep no longer gives the same curves."""


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

WEIGHT_DECAYS = (0.0, 0.01, 0.1)

OPPONENTS: dict[str, Callable[[], Sweep]] = {
    "adam": lambda: Sweep("adam", Adam(), grid(LRS)),
    "adamw": lambda: Sweep("adamw", Adam(), grid(LRS, WEIGHT_DECAYS)),
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
        scores: of all settings, in the order of the sweep; the smallest is the best.
        at_edge: whether the best learning rate is the smallest or largest of several, so that the
            sweep should reach further.
    """

    setting: Setting
    curve: Curve
    scores: tuple[float, ...]
    at_edge: bool


def tuned(
    sweep: Sweep, task: Task, budget: Budget, criterion: str = "train", folder: Path | None = None
) -> Tuned:
    """Try all settings of a sweep on a task and take the best.

    Args:
        sweep: what to try.
        task: what to train.
        budget: for how long.
        criterion: what is best on average over the problems: `train`, the training loss in the
            last tenth of the steps; `held_out`, the held-out loss at the end; or the name of a
            metric of the task, such as `accuracy`, held-out and the larger the better.
        folder: where results are kept, to be used again; they are not kept by default.

    Raises:
        MetaTrainError: if the task has no such metric.
    """

    def compute() -> dict[str, Any]:
        found = curves(sweep.rule, task, sweep.settings, budget)
        scores = [score(curve, criterion) for curve in found]
        best = min(range(len(scores)), key=scores.__getitem__)
        return {"best": best, "scores": scores, "curve": found[best].plain()}

    plain = cached(folder, sweep.name, _key(sweep, task, budget, criterion), compute)
    setting = sweep.settings[plain["best"]]
    lrs = sorted({setting.lr for setting in sweep.settings})
    at_edge = len(lrs) > 1 and setting.lr in (lrs[0], lrs[-1])
    return Tuned(setting, Curve.of(plain["curve"]), tuple(plain["scores"]), at_edge)


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


def _key(sweep: Sweep, task: Task, budget: Budget, criterion: str) -> dict[str, Any]:
    shapes = {name: layout.shape for name, layout in task.graph.parameters.items()}
    return {
        "version": VERSION,
        "task": task.name,
        "shapes": shapes,
        "rule": type(sweep.rule).__name__,
        "config": sweep.rule.config,
        "theta": fingerprint(sweep.rule.state_dict()),
        "settings": [asdict(setting) for setting in sweep.settings],
        "budget": asdict(budget),
        "criterion": criterion,
    }
