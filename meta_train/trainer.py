"""One outer step after the other: stacks estimate the meta-gradient, theta moves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from meta_train import checkpoint
from meta_train.config import Config
from meta_train.distributed import World
from meta_train.errors import MetaTrainError
from meta_train.estimators.activity_pes import ActivityPES
from meta_train.estimators.backprop import Greedy, TruncatedBackprop
from meta_train.estimators.estimator import Estimator
from meta_train.estimators.evolution_strategies import ES, NRES, PES
from meta_train.inner_stacks import InnerStack, Lengths
from meta_train.interleave import in_turns
from meta_train.meta_loss import MetaLoss
from meta_train.outer import Outer, OuterOptions
from meta_train.rules import rule_of
from meta_train.tasks.augmentation import Augmented
from meta_train.tasks.family import family_of
from meta_train.unroll.modules import Modules
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked
from ngopt.rules.library import current_spec
from ngopt.rules.rule import Rule


@dataclass(frozen=True)
class Report:
    """What happened in an outer step.

    Args:
        step: number of outer steps so far, this one included.
        meta_loss: mean over all runs.
        by_task: mean over the runs of each task in this process, by its name.
        diverged: number of runs that diverged and were started anew.
        norm: of the meta-gradient, before clipping.
        rate: learning rate of theta.
        inner_steps: number of inner steps in this outer step, over all runs and processes.
    """

    step: int
    meta_loss: float
    by_task: dict[str, float]
    diverged: int
    norm: float
    rate: float
    inner_steps: int


class MetaTrainer:
    """Meta-trains a rule.

    Args:
        config: everything there is to choose.
        world: the processes that share the work.

    Attributes:
        last: number of outer steps after which the learning rate of theta has reached its last;
            that of the configuration, until it is changed.
    """

    def __init__(self, config: Config, world: World) -> None:
        self.active = config.active or config.stacks
        if self.active % world.size:
            raise MetaTrainError(
                f"{self.active} stacks cannot be shared evenly among {world.size} processes.\n"
                "  Use a number of stacks (of active ones, where some wait) that is a multiple of "
                "the number of processes."
            )
        self.config, self.world, self.step_number = config, world, 0
        self.last = config.steps
        self.inner_steps, self.diverged, self.seconds = 0, 0, 0.0
        self.rule = rule_of(config.rule).to(world.device)
        self.rule.lr = config.unroll.lr
        # What is frozen by default is not in every rule.
        freeze(self.rule, config.frozen, Config.frozen)
        self.outer = Outer(self.rule, config.outer)
        estimator = self._estimator()
        families = [Augmented(family_of(text), config.augment) for text in config.families]
        self.stacks = [
            InnerStack(
                number,
                estimator,
                families if config.mixed else [families[number % len(families)]],
                config.problems,
                config.lengths,
                config.seed,
                world.device,
                config.entries,
            )
            for number in range(world.rank, config.stacks, world.size)
        ]

    def _estimator(self) -> Estimator:
        config = self.config
        backend = {"stacked": Stacked, "modules": Modules}[config.backend]
        unroll = backend(self.rule, config.unroll)
        common = (unroll, config.meta_loss, config.truncation)
        if config.estimator == "backprop":
            return TruncatedBackprop(*common)
        if config.estimator == "greedy":
            return Greedy(*common)
        options: dict[str, Any] = {"sigma": config.sigma, "standardize": config.standardize}
        if config.estimator in ("es", "nres"):
            return {"es": ES, "nres": NRES}[config.estimator](*common, **options)
        options["segment"] = config.segment
        if config.estimator == "pes":
            return PES(*common, **options)
        return ActivityPES(*common, sigma_outputs=config.sigma_outputs, **options)

    def step(self) -> Report:
        """Do one outer step."""
        config, world = self.config, self.world
        size = sum(weight.numel() for weight in self.outer.theta.values())
        # A row for each stack: its meta-gradient, meta-loss, number of diverged runs and of runs.
        # Others add zeros to it, which is exact: theta does not depend on the number of processes.
        like = next(iter(self.outer.theta.values()))
        rows = torch.zeros(self.active, size + 3, dtype=like.dtype, device=like.device)
        by_task: dict[str, list[float]] = {}
        first = self.step_number * self.active % config.stacks
        stacks = [stack for stack in self.stacks if first <= stack.number < first + self.active]
        estimates = in_turns([stack.estimating() for stack in stacks], world.device)
        for stack, estimate in zip(stacks, estimates, strict=True):
            flat = [estimate.gradient[name].flatten() for name in self.outer.theta]
            count = rows.new_tensor(len(estimate.losses))
            figures = torch.stack([estimate.losses.mean(), estimate.diverged.to(rows), count])
            rows[stack.number - first] = torch.cat([*flat, figures])
            by_task.setdefault(stack.task.name, []).append(float(estimate.losses.mean()))
        rows = world.add(rows)
        mean = rows.mean(0)
        norm = self.outer.step(self._shaped(mean[:size]), self.step_number, self.last)
        rate = config.outer.rate(self.step_number, self.last)
        runs = int(rows[:, size + 2].sum())
        self.step_number += 1
        self.inner_steps += runs * config.truncation
        diverged = int(rows[:, size + 1].sum())
        self.diverged += diverged
        return Report(
            step=self.step_number,
            meta_loss=float(mean[size]),
            by_task={name: fmean(losses) for name, losses in by_task.items()},
            diverged=diverged,
            norm=float(norm),
            rate=rate,
            inner_steps=runs * config.truncation,
        )

    def _shaped(self, flat: Tensor) -> dict[str, Tensor]:
        theta = self.outer.theta
        parts = torch.split(flat, [weight.numel() for weight in theta.values()])
        return {n: part.view_as(theta[n]) for n, part in zip(theta, parts, strict=True)}

    def state_dict(self) -> dict[str, Any] | None:
        """Everything that resuming needs, on the main process; None on others. All must call it."""
        gathered = self.world.gather([stack.state_dict() for stack in self.stacks])
        if gathered is None:
            return None
        stacks: list[Any] = [None] * self.config.stacks
        for rank, states in enumerate(gathered):
            stacks[rank :: self.world.size] = states
        return {
            "step": self.step_number,
            "rule": {
                "spec": self.config.rule,
                "class": type(self.rule).__name__,
                "config": json.dumps(self.rule.config),
                "lr": self.rule.lr,
            },
            "theta": {name: t.detach().cpu() for name, t in self.rule.state_dict().items()},
            "outer": self.outer.state_dict(),
            "stacks": stacks,
            "config": as_json(self.config),
            "cost": {
                "inner_steps": self.inner_steps,
                "seconds": self.seconds,
                "diverged": self.diverged,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called, with any number of processes.

        Raises:
            MetaTrainError: if the configuration has changed in what theta depends on.
        """
        # An older checkpoint lacks options that came later: it was begun with their defaults.
        defaults = replace(
            Config(),
            frozen=(),
            lengths=Lengths(),
            unroll=UnrollOptions(),
            meta_loss=MetaLoss(),
            outer=OuterOptions(),
        )
        before = _completed(json.loads(state["config"]), json.loads(as_json(defaults)))
        now = json.loads(as_json(self.config))
        for options in (before, now):
            options["rule"] = current_spec(options["rule"])
        checkpoint.check_unchanged(before, now, FREE)
        self.rule.load_state_dict(state["theta"])
        self.outer.load_state_dict(state["outer"])
        self.step_number = state["step"]
        names = ("inner_steps", "seconds", "diverged")
        self.inner_steps, self.seconds, self.diverged = (state["cost"][name] for name in names)
        for stack in self.stacks:
            # Checkpoints of earlier versions call them slots.
            stack.load_state_dict(state.get("stacks", state.get("slots"))[stack.number])


def as_json(config: Config) -> str:
    """Return a configuration as JSON text."""
    return json.dumps(asdict(config), default=str, indent=2)


FREE = ("preset", "folder", "imports", "steps", "device", "checkpoint_every", "keep", "board")
"""Options that may change when a run goes on."""


def _completed(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of those that are missing; an empty dict may hold anything."""
    return {
        key: _completed(given.get(key, {}), value)
        if value and isinstance(value, dict)
        else given.get(key, value)
        for key, value in defaults.items()
    }


def freeze(rule: Rule, beginnings: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Exempt parts of theta from learning.

    Args:
        rule: whose theta it is.
        beginnings: of the names of the parts.
        optional: those that the rule need not have.

    Raises:
        MetaTrainError: if no name begins so.
    """
    names = [name for name, _ in rule.named_parameters()]
    for beginning in set(beginnings) - set(optional):
        if not any(name.startswith(beginning) for name in names):
            parts = sorted({name.split(".")[0] for name in names})
            raise MetaTrainError(
                f"cannot freeze `{beginning}`: {type(rule).__name__} has no such weights.\n"
                f"  Use the beginning of a name; its parts are: {', '.join(parts)}. "
                "Or freeze nothing (--frozen, with nothing after it)."
            )
    for name, weight in rule.named_parameters():
        weight.requires_grad_(not name.startswith(tuple(beginnings)))
