"""One step of the optimizer, of all runs at once, for any theta."""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_train.tasks.task import Task, Tensors
from meta_train.unroll.runs import Runs
from ngopt.optim.update import Options, updated
from ngopt.rules.rule import Rule, State


class Move(Protocol):
    """Moves all runs by one step."""

    def __call__(self, runs: Runs, *, fresh: bool = True) -> tuple[Tensors, State]:
        """Return the parameters and the state of all runs after a step.

        Args:
            runs: where they stand.
            fresh: whether the rule looks at the whole model, or goes by what it last saw of it.
        """


def mover(
    rule: Rule, task: Task, theta: Mapping[str, Tensor] | None, weight_decay: float | None
) -> Move:
    """What gives the parameters and the state of all runs after a step.

    Args:
        rule: turns gradients into updates.
        task: of the runs.
        theta: weights of the rule by name, for all runs the same, or with a leading dimension
            `runs`; the rule's own by default.
        weight_decay: decoupled weight decay; None for the rule's own.
    """
    own = dict(rule.named_parameters())
    theta = own if theta is None else theta
    module = _Move(rule, task, weight_decay)
    each = any(theta[name].dim() > tensor.dim() for name, tensor in own.items())

    def one(fresh: bool, theta: Tensors, *run: object) -> tuple[Tensors, State]:
        moved: tuple[Tensors, State] = functional_call(module, theta, (*run, fresh))
        return moved

    dims = (0 if each else None, 0, 0, 0, 0)
    named = {f"rule.{name}": tensor for name, tensor in theta.items()}

    def moved(runs: Runs, *, fresh: bool = True) -> tuple[Tensors, State]:
        step = partial(one, fresh)
        run = (runs.parameters, runs.gradients, runs.state, runs.lr)
        if rule.supports_runs(runs.gradients) and not rule.reports_diagnostics:
            found: tuple[Tensors, State] = functional_call(module, named, (*run, fresh))
            return found
        move = torch.vmap(step, in_dims=dims, randomness="different")
        result: tuple[Tensors, State] = move(named, *run)
        return result

    return moved


class _Move(nn.Module):
    """One step of the optimizer, as a module, so that theta can be swapped."""

    def __init__(self, rule: Rule, task: Task, weight_decay: float | None) -> None:
        super().__init__()
        self.rule, self._graph, self._weight_decay = rule, task.graph, weight_decay

    def forward(
        self, parameters: Tensors, gradients: Tensors, state: State, lr: Tensor, fresh: bool
    ) -> tuple[Tensors, State]:
        options = {
            name: Options(
                _wide(lr, tensor),
                self._decay(name, tensor, state[name]),
                annealing_factor=self._annealed(tensor, state[name]),
            )
            for name, tensor in parameters.items()
        }
        # Runs whose gradients are not finite have diverged: what becomes of them is not used.
        given = (parameters, gradients, state, self._graph, self.rule, options)
        return updated(*given, refresh=fresh)

    def _decay(self, name: str, tensor: Tensor, state: Tensors) -> Tensor | float:
        """Weight decay of a parameter at this step."""
        if self._weight_decay is not None:
            return self._weight_decay
        if "step" not in state or len(self._graph.layout(name).shape) < 2:
            return 0.0
        decay = self.rule.weight_decay(state["step"] + 1)
        return _wide(decay, tensor) if isinstance(decay, Tensor) else decay

    def _annealed(self, tensor: Tensor, state: Tensors) -> Tensor | float | None:
        """By what the rule anneals a parameter at this step; left to the step of a single run."""
        if "step" not in state or not state["step"].dim():
            return None
        annealing_factor = self.rule.annealing_factor(state["step"] + 1)
        return (
            _wide(annealing_factor, tensor)
            if isinstance(annealing_factor, Tensor)
            else annealing_factor
        )


def _wide(numbers: Tensor, tensor: Tensor) -> Tensor:
    """A number of each run, or of one, so that it broadcasts to a parameter of as many runs."""
    return numbers.view(-1, *[1] * (tensor.dim() - 1)) if numbers.dim() else numbers
