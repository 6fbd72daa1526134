"""Opponents: well-known optimizers with the best of many settings."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

from meta_train.cache import cached
from meta_train.curves import Budget, Curve, Schedule, Setting, Stepper, curves, stacks
from meta_train.errors import MetaTrainError
from meta_train.spec import look_up, parse
from meta_train.tasks.task import Task
from meta_train.unroll.torch_optimizers import TorchOptimizer
from ngopt.rules import SGDM, Adam, Muon
from ngopt.rules.library import fingerprint

VERSION = 2
"""To be raised when the same setting no longer gives the same curve."""

DIGITS = 6
"""Number of significant digits in results that are kept."""

FINALISTS = 2
"""Number of settings of each schedule that are tried on all problems after a screening."""


@dataclass(frozen=True)
class Sweep:
    """A rule or an optimizer of torch, and the settings that it is tried with.

    Args:
        name: for tables and curves.
        rule: what is tried.
        settings: one or more.
    """

    name: str
    rule: Stepper
    settings: tuple[Setting, ...]


def grid(
    lrs: tuple[float, ...],
    weight_decays: tuple[float, ...] = (0.0,),
    schedules: tuple[Schedule, ...] = get_args(Schedule),
) -> tuple[Setting, ...]:
    """Each learning rate with each schedule and with each weight decay."""
    combinations = product(weight_decays, schedules, lrs)
    return tuple(Setting(lr, schedule, decay) for decay, schedule, lr in combinations)


LRS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Learning rates of Adam, and of the rules whose `lr` means what it means for Adam."""

WEIGHT_DECAY = 0.01
"""Of AdamW, as torch has it by default."""

SOAP = TorchOptimizer(
    "pytorch_optimizer.SOAP", {"betas": (0.95, 0.95), "precondition_frequency": 10}
)
"""With the options of its README.

Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025.
"""

SCHEDULE_FREE = TorchOptimizer("pytorch_optimizer.ScheduleFreeAdamW", shares={"warmup_steps": 0.05})
"""With the warm-up that its README asks for.

Source: Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
"""


def celo(weights: str) -> Sweep:
    """Celo as published, which is given the number of steps and the losses, and is not tuned.

    Args:
        weights: file of its weights; see :class:`~meta_train.unroll.celo.Celo`.
    """
    known = TorchOptimizer(
        "meta_train.unroll.celo.Celo", shares={"num_steps": 1.0}, files={"weights": weights}
    )
    return Sweep("celo", known, (Setting(1.0),))


OPPONENTS: dict[str, Callable[..., Sweep]] = {
    "adam": lambda: Sweep("adam", Adam(), grid(LRS)),
    "adamw": lambda: Sweep("adamw", Adam(), grid(LRS, (WEIGHT_DECAY,))),
    "sgdm": lambda: Sweep("sgdm", SGDM(), grid((3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0))),
    # Its update has the RMS of Adam's, so that one learning rate suits matrices and all else.
    "muon": lambda: Sweep("muon", Muon(adjust="match_rms_adamw"), grid(LRS[1:])),
    # As its author has it: only hidden matrices are Muon's, and all weights decay.
    "muon_adamw": lambda: Sweep(
        "muon_adamw",
        Muon(adjust="match_rms_adamw", betas=(0.9, 0.999), hidden_only=True),
        grid(LRS, (WEIGHT_DECAY,)),
    ),
    "nadamw": lambda: Sweep("nadamw", Adam(nesterov=True), grid(LRS, (WEIGHT_DECAY,))),
    "soap": lambda: Sweep("soap", SOAP, grid(LRS, (WEIGHT_DECAY,))),
    # It goes without a schedule, at larger rates than Adam's, and is swept over the decay instead.
    "schedule_free": lambda: Sweep(
        "schedule_free", SCHEDULE_FREE, grid((*LRS[1:], 0.3), (0.0, WEIGHT_DECAY), ("constant",))
    ),
    "celo": celo,
}
"""What makes each opponent."""


def opponent(text: str) -> Sweep:
    """An opponent, by name, with options if it has any: `celo:weights=celo.safetensors`.

    Raises:
        MetaTrainError: if there is none of that name, or it takes other options.
    """
    name, options = parse(text)
    make = look_up(OPPONENTS, name, "opponent")
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        needed = ", ".join(f"{key}=..." for key in inspect.signature(make).parameters)
        raise MetaTrainError(
            f"cannot make the opponent `{text}`: {error}.\n  Use {name}{needed and ':'}{needed}."
        ) from error
    return make(**options)


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

    def plain(self) -> dict[str, Any]:
        """Plain data with numbers of few digits, for JSON; :meth:`of` makes a result of it."""
        return {
            "setting": asdict(self.setting),
            "curve": _short(self.curve.plain()),
            "scores": _short(list(self.scores)),
            "at_edge": self.at_edge,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Tuned":
        """Make the result that :meth:`plain` was called on, but for digits."""
        return cls(
            Setting(**plain["setting"]),
            Curve.of(plain["curve"]),
            tuple(plain["scores"]),
            plain["at_edge"],
        )


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
            not matter what the sweep is called. The results proper are small. The curves of all
            settings, which a sweep that was killed goes on with, are in a subfolder `curves`.
        screen: number of problems on which all settings are tried first; then the best two of
            each schedule are tried on all problems, and the best of these is taken. With 0, all
            settings are tried on all problems.

    Raises:
        MetaTrainError: if the task has no such metric.
    """
    key = _key(sweep.rule, task, budget) | {
        "settings": [asdict(setting) for setting in sweep.settings],
        "criterion": criterion,
        "screen": screen,
    }
    best = partial(_best, sweep, task, budget, criterion, folder and folder / "curves", screen)
    return Tuned.of(cached(folder, _label(sweep.rule, task), key, lambda: best().plain()))


def _best(
    sweep: Sweep, task: Task, budget: Budget, criterion: str, folder: Path | None, screen: int
) -> Tuned:
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
    rule: Stepper, task: Task, settings: Sequence[Setting], budget: Budget, folder: Path | None
) -> list[Curve]:
    """The curve of each setting, each in a file, written as soon as its stack is done."""
    found: dict[int, Curve] = {}
    for places in stacks(task, settings, budget.problems):
        together = cache(partial(curves, rule, task, [settings[n] for n in places], budget))
        for number, place in enumerate(places):

            def plain(together: Any = together, number: int = number) -> dict[str, Any]:
                curve: Curve = together()[number]
                return curve.plain()

            key = _key(rule, task, budget) | {"setting": asdict(settings[place])}
            found[place] = Curve.of(cached(folder, _label(rule, task), key, plain))
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


def _name(rule: Stepper) -> str:
    return rule.name if isinstance(rule, TorchOptimizer) else type(rule).__name__


def _label(rule: Stepper, task: Task) -> str:
    return f"{_name(rule)}-{task.name.partition('(')[0]}"


def _key(rule: Stepper, task: Task, budget: Budget) -> dict[str, Any]:
    shapes = {name: layout.shape for name, layout in task.graph.parameters.items()}
    theta = {} if isinstance(rule, TorchOptimizer) else rule.state_dict()
    return {
        "version": VERSION,
        "task": task.name,
        "shapes": shapes,
        "rule": _name(rule),
        "config": rule.config,
        "theta": fingerprint(theta),
        "budget": asdict(budget),
    }


def _short(plain: Any) -> Any:
    """The same with numbers of a few significant digits."""
    if isinstance(plain, Mapping):
        return {key: _short(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_short(value) for value in plain]
    return float(f"{plain:.{DIGITS}g}") if isinstance(plain, float) else plain
