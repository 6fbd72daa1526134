"""What every back end does: start inner runs, advance them, start diverged ones anew."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from meta_train.interleave import Work, finished
from meta_train.tasks.task import Batch, Task, Tensors
from meta_train.unroll.move import Move, mover
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.recorder import Batches, Recorder, captures
from meta_train.unroll.runs import Runs, chosen, mapped, repeated, start
from ngopt.rules.refresh_schedule import FIRST, is_refresh_step
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
        self._recorders: WeakKeyDictionary[Task, Recorder] = WeakKeyDictionary()

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
        begun = replace(begun, lr=repeated(lr, copies), average=average)
        batch = begun.draw()
        with _seeded(begun.seed(), begun):
            begun = self._look(begun, batch)
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
                often as the optimizer has it look; by default as the options say.
        """
        return finished(self.advancing(runs, steps, theta, made))

    def advancing(
        self,
        runs: Runs,
        steps: int,
        theta: Mapping[str, Tensor] | None = None,
        made: int | None = None,
    ) -> Work[Advanced]:
        """Do the same, with pauses between the steps where another stack can take its turn."""
        theta = dict(self.rule.named_parameters()) if theta is None else theta
        looks = [self._looks(runs.made, made, number) for number in range(steps)]
        if captures(runs.losses.device):
            runs, losses = yield from self._captured(runs, looks, theta)
        else:
            runs, losses = self._eager(runs, looks, theta)
            yield
        return Advanced(replace(runs, made=runs.made + steps), torch.stack(losses))

    def _looks(self, before: int, made: int | None, number: int) -> bool:
        """Whether the rule looks at the whole model at a step of a truncation."""
        every = self.rule.refresh_every
        if made is not None:
            return is_refresh_step(made + number, every)
        due = before + number < FIRST or number % every == 0
        return due or self.options.looks == "each"

    def _eager(
        self, runs: Runs, looks: Sequence[bool], theta: Mapping[str, Tensor]
    ) -> tuple[Runs, list[Tensor]]:
        losses, move = [], self._mover(runs, theta)
        for fresh in looks:
            batches = self._batches(runs)
            with _seeded(batches.seed, runs):
                runs, loss = self._step(runs, batches, partial(move, fresh=fresh))
            losses.append(loss)
        return runs, losses

    def _captured(
        self, runs: Runs, looks: Sequence[bool], theta: Mapping[str, Tensor]
    ) -> Work[tuple[Runs, list[Tensor]]]:
        """The same, with each kind of step recorded once for each task and replayed."""
        recorder = self._recorders.get(runs.task)
        if recorder is None or not recorder.fits(runs, theta):
            recorder = self._recorders[runs.task] = Recorder(self._recorded)
        recorder.load(runs, theta)
        losses = []
        for fresh in looks:
            losses.append(recorder.step(runs, self._batches(runs), fresh))
            yield
        return recorder.result(runs), losses

    def _recorded(
        self, runs: Runs, batches: Batches, theta: Mapping[str, Tensor], fresh: bool
    ) -> tuple[Runs, Tensor]:
        return self._step(runs, batches, partial(self._mover(runs, theta), fresh=fresh))

    def _mover(self, runs: Runs, theta: Mapping[str, Tensor]) -> Move:
        return mover(self.rule, runs.task, theta, self.options.weight_decay)

    def _step(
        self, runs: Runs, batches: Batches, move: Callable[[Runs], tuple[Tensors, State]]
    ) -> tuple[Runs, Tensor]:
        """One step of all runs, which draws nothing: their new state, and the losses after it."""
        parameters, state = move(runs)
        average = self._averaged(runs, parameters)
        moved = replace(runs, parameters=parameters, state=state, average=average)
        after = self._look(moved, batches.next)
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
        losses = torch.where(going, self._measure(runs, after, batches.measured), limit)
        return replace(after, diverged=~going), losses

    def _averaged(self, runs: Runs, parameters: Tensors) -> Tensors:
        """Mean of the parameters after a step, where it is what is measured."""
        return {
            name: torch.lerp(mean, parameters[name], 1 - self.options.average)
            for name, mean in runs.average.items()
        }

    def _batches(self, runs: Runs) -> Batches:
        """Draw what a step needs: the next batch, and that on which losses are measured."""
        measure, average = self._measured_on(runs), self.options.average
        drawn = runs.draw()
        measured: Batch = ()
        if measure != "same" and (measure != "next" or average):
            measured = runs.draw("held_out" if measure == "held_out" else "train")
        return Batches(drawn, measured, runs.seed())

    def _measured_on(self, runs: Runs) -> str:
        return runs.task.measure or self.options.measure

    def _measure(self, before: Runs, after: Runs, batch: Batch) -> Tensor:
        """Losses after a step, differentiable with respect to the parameters.

        Args:
            before: the runs before the step.
            after: the runs after it.
            batch: on which to measure; none for the batch of the step or of the next one.
        """
        average = self.options.average
        if self._measured_on(before) == "same":
            batch = tuple(before.batch.values())
        elif not batch:
            return after.losses if self.options.second_order else _attached(after)
        return self._losses(replace(after, parameters=after.average) if average else after, batch)

    def _look(self, runs: Runs, batch: Batch) -> Runs:
        remember: AbstractContextManager[object] = (
            nullcontext() if self.options.second_order else torch.no_grad()
        )
        with remember:
            seen = self._gradients(runs, batch)
        kept = dict(zip(map(str, range(len(batch))), batch, strict=True))
        return replace(seen, batch=kept if self._measured_on(runs) == "same" else {})

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
def _seeded(seed: int, runs: Runs) -> Iterator[None]:
    """Let what is random inside models, such as dropout, follow from a seed."""
    devices = [runs.task.device] if runs.task.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        # Not torch.manual_seed: where CUDA has not been used yet, it takes as long as a small step.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
