"""What every back end does: start inner runs, advance them, start diverged ones anew."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from meta_train.tasks.task import Batch, Task, Tensors
from meta_train.unroll.move import mover
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.runs import Runs, chosen, mapped, repeated, start
from ngopt.optim.refreshing import refreshes
from ngopt.rules.rule import Rule, State


class Advanced(NamedTuple):
    """Runs some steps later.

    Args:
        runs: their new state; it remembers how it came about where gradients are enabled.
        losses: after each step, (steps, runs); differentiable with respect to theta where
            gradients are enabled.
    """

    runs: Runs
    losses: Tensor


class Unroll(ABC):
    """Trains models with a rule, keeping track of how the result depends on theta.

    By default meta-gradients are first-order: the gradients that the rule is given count as
    constants. Then the derivative of each loss with respect to the parameters is the inner gradient
    of the next step, which is needed anyway, so an inner step costs one forward and one backward
    pass of the models whether or not theta is differentiated.

    Args:
        rule: whose theta is learned.
        options: how runs are trained and measured.
    """

    def __init__(self, rule: Rule, options: UnrollOptions | None = None) -> None:
        self.rule = rule
        self.options = options or UnrollOptions()

    def begin(self, task: Task, runs: int, generator: torch.Generator, copies: int = 1) -> Runs:
        """Start runs.

        A run has diverged from the start if the untrained model's gradients are not finite, or its
        loss is not above 0.

        Args:
            task: what they minimise.
            runs: how many problems; there are `runs * copies` runs.
            generator: draws all that is random about them, now and later; it is kept.
            copies: how many runs share a problem, a learning rate and batches.
        """
        begun = start(task, self.rule, runs, generator, copies)
        spread = math.log(self.options.lr_spread)
        exponents = 2 * torch.rand(runs, generator=generator, dtype=torch.float64) - 1
        lr = (self.options.lr * torch.exp(spread * exponents)).to(begun.lr)
        average = dict(begun.parameters) if self.options.average else {}
        begun = self._look(replace(begun, lr=repeated(lr, copies), average=average))
        usable = (begun.losses > 0) & sound(begun, torch.finfo(begun.losses.dtype).max)
        unit = torch.where(usable, begun.losses, 1.0)
        gradients = mapped(lambda g: chosen(usable, g, torch.zeros_like(g)), begun.gradients)
        return replace(begun, losses=unit, unit=unit, gradients=gradients, diverged=~usable)

    def restart(self, runs: Runs, which: Tensor) -> Runs:
        """Start some runs anew, with other problems.

        Args:
            runs: all of them.
            which: bool, (runs,), the same for copies.
        """
        fresh = self.begin(runs.task, len(runs) // runs.copies, runs.generator, runs.copies)
        tensors = mapped(lambda new, old: chosen(which, new, old), fresh.tensors(), runs.tensors())
        return runs.with_tensors(tensors)

    def advance(
        self,
        runs: Runs,
        steps: int,
        theta: Mapping[str, Tensor] | None = None,
        made: int | None = None,
    ) -> Advanced:
        """Train all runs for some steps.

        A run that diverges stands still from then on; its loss is `diverged_above` times the
        untrained model's, and nothing flows back from it.

        Args:
            runs: where they stand; not changed, but their generator advances.
            steps: how many.
            theta: weights of the rule by name, for all runs the same, or with a leading dimension
                `runs`; the rule's own by default.
            made: number of steps that all runs have made. The rule then looks at the whole model as
                often as the optimizer has it look; by default at every step.
        """
        move = mover(self.rule, runs.task, theta, self.options.weight_decay)
        losses = []
        for number in range(steps):
            fresh = made is None or refreshes(made + number, self.rule.refresh_every)
            runs, loss = self._step(runs, partial(move, fresh=fresh))
            losses.append(loss)
        return Advanced(runs, torch.stack(losses))

    def _step(
        self, runs: Runs, move: Callable[[Runs], tuple[Tensors, State]]
    ) -> tuple[Runs, Tensor]:
        parameters, state = move(runs)
        average = {
            name: torch.lerp(mean, parameters[name], 1 - self.options.average)
            for name, mean in runs.average.items()
        }
        after = self._look(replace(runs, parameters=parameters, state=state, average=average))
        limit = self.options.diverged_above * runs.unit
        going = sound(after, limit) & ~runs.diverged

        def of_going(slope: Tensor) -> Tensor:
            return chosen(going, slope, torch.zeros_like(slope))

        for parameter in parameters.values():
            if parameter.requires_grad:  # Where a model gave NaN, zero slopes come back as NaN.
                parameter.register_hook(of_going)  # type: ignore[no-untyped-call]
        after = after.with_tensors(
            mapped(
                lambda new, old: chosen(going, new, old.detach()), after.tensors(), runs.tensors()
            )
        )
        losses = torch.where(going, self._measure(runs, after), limit)
        return replace(after, diverged=~going), losses

    def _measure(self, before: Runs, after: Runs) -> Tensor:
        """Losses after a step, differentiable with respect to the parameters."""
        measure, average = self.options.measure, self.options.average
        if measure == "next" and not average:
            return after.losses if self.options.second_order else _attached(after)
        if measure == "same":
            batch = tuple(before.batch.values())
        else:
            batch = after.draw("held_out" if measure == "held_out" else "train")
        with _seeded(after):
            measured = replace(after, parameters=after.average) if average else after
            return self._losses(measured, batch)

    def _look(self, runs: Runs) -> Runs:
        batch = runs.draw()
        remember: AbstractContextManager[object] = (
            nullcontext() if self.options.second_order else torch.no_grad()
        )
        with remember, _seeded(runs):
            seen = self._gradients(runs, batch)
        kept = dict(zip(map(str, range(len(batch))), batch, strict=True))
        return replace(seen, batch=kept if self.options.measure == "same" else {})

    @abstractmethod
    def _losses(self, runs: Runs, batch: Batch) -> Tensor:
        """Losses on a batch, (runs,); nothing else comes of it."""

    @abstractmethod
    def _gradients(self, runs: Runs, batch: Batch) -> Runs:
        """Return runs with their losses and gradients on a batch, after which models change."""


def sound(runs: Runs, limit: Tensor | float) -> Tensor:
    """Which runs have finite gradients and a loss that is at most a finite limit, (runs,)."""
    with torch.no_grad():
        flags = runs.losses <= limit  # False for NaN.
        for gradient in runs.gradients.values():
            flags = flags & torch.isfinite(gradient).flatten(1).all(1)
        return flags


def _attached(runs: Runs) -> Tensor:
    """Losses whose derivative with respect to the parameters is the gradient that is known."""
    products = [
        (parameter * runs.gradients[name]).flatten(1).sum(1)
        for name, parameter in runs.parameters.items()
    ]
    linear = torch.stack(products).sum(0)
    return runs.losses + (linear - linear.detach()).to(runs.losses)


@contextmanager
def _seeded(runs: Runs) -> Iterator[None]:
    """Let what is random inside models, such as dropout, follow from the runs' generator."""
    devices = [runs.task.device] if runs.task.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        seed = int(torch.randint(2**62, (), generator=runs.generator))
        # Not torch.manual_seed: where CUDA has not been used yet, it takes as long as a small step.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
