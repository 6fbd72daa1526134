"""An optimizer at work on a model, and what its steps cost there."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.memory import forget_peak, peak_resident
from benchmarks.models import Objective, loss_on
from ngopt import NeuralGraphOptimizer
from ngopt.optim.context_refresh import ContextRefresh
from ngopt.rules.refresh_schedule import FIRST, is_refresh_step

Build = Callable[[nn.Module], list[Optimizer]]
"""Makes an optimizer, or several, for a model."""

HORIZON = 1000
"""Number of steps that a mean is over: refreshes become rarer with time."""

AT_LEAST = 0.2
"""Seconds of a turn: small models take several steps."""


class Turn(NamedTuple):
    """Seconds per step of one turn."""

    passes: float
    step: float


class Contestant:
    """An optimizer, or several that share a model, at work.

    Args:
        build: makes the optimizers.
        model: the model; all contestants train the same.
        batch: what it is trained on.
        objective: the loss of a model on a batch.
    """

    def __init__(
        self,
        build: Build,
        model: nn.Module,
        batch: Any,
        objective: Objective = loss_on,
    ) -> None:
        self.model, self.batch, self.objective = model, batch, objective
        self.on_cuda = next(model.parameters()).is_cuda
        started = time.perf_counter()
        self.optimizers = build(model)
        # With a cached graph context, steps with and without a refresh take different times.
        self.cycle = max(map(_cycle, self.optimizers))
        settling = 1 if self.cycle == 1 else FIRST + self.cycle
        for _ in range(settling):
            self._once()
        first = time.perf_counter() - started
        self.steps = self.cycle
        usual = min(sum(self.turn()) for _ in range(2))
        self.first = first - settling * usual
        self.steps = self.cycle * max(1, round(AT_LEAST / usual / self.cycle))

    def turn(self) -> Turn:
        """Train for some steps; the mean is that over the first :data:`HORIZON` steps."""
        passes = 0.0
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(self.steps):
            for context_refresh in self._context_refreshes:
                context_refresh.step = FIRST  # here refreshes do not become rarer
            spent = self._once()
            passes += spent.passes
            refreshed = any(set(r.since.values()) == {1} for r in self._context_refreshes)
            seconds[refreshed].append(spent.step)
        means = {kind: sum(found) / len(found) for kind, found in seconds.items() if found}
        share = refresh_share(self.cycle) if len(means) == 2 else float(True in means)
        step = share * means.get(True, 0.0) + (1 - share) * means.get(False, 0.0)
        return Turn(passes / self.steps, step)

    def transient(self) -> float:
        """Bytes that a step takes beside what is there before and after."""
        self._passes()
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self._step()
            return torch.cuda.max_memory_allocated() - before
        before_mib = forget_peak()
        self._step()
        return (peak_resident() - before_mib) * 2**20

    def state(self) -> int:
        """Bytes of the state."""
        tensors = [
            value
            for optimizer in self.optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def _context_refreshes(self) -> list[ContextRefresh]:
        ours = [o for o in self.optimizers if isinstance(o, NeuralGraphOptimizer)]
        return [optimizer._context_refresh for optimizer in ours]

    def _once(self) -> Turn:
        return Turn(_seconds(self._passes, self.on_cuda), _seconds(self._step, self.on_cuda))

    def _passes(self) -> None:
        self.model.zero_grad()
        self.objective(self.model, self.batch).backward()

    def _step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


def refresh_share(every: int) -> float:
    """Share of the first :data:`HORIZON` steps at which a rule refreshes its graph context.

    Args:
        every: number of steps between refreshes, in the beginning.
    """
    return sum(is_refresh_step(step, every) for step in range(HORIZON)) / HORIZON


def _cycle(optimizer: Optimizer) -> int:
    """Number of steps after which they are of the same kinds again."""
    return optimizer.rule.refresh_every if isinstance(optimizer, NeuralGraphOptimizer) else 1


def _seconds(run: Callable[[], object], on_cuda: bool) -> float:
    if on_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
