"""One step of the optimizer, of all runs at once, for any theta."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meta_train.tasks.task import Task, Tensors
from meta_train.unroll.runs import Runs
from ngopt.optim.update import Options, changed
from ngopt.rules.replayed import replay, replays
from ngopt.rules.rule import Rule, State

Move = Callable[[Runs], tuple[Tensors, State]]


def mover(rule: Rule, task: Task, theta: Mapping[str, Tensor] | None, weight_decay: float) -> Move:
    """What gives the parameters and the state of all runs after a step.

    Args:
        rule: turns gradients into updates.
        task: of the runs.
        theta: weights of the rule by name, for all runs the same, or with a leading dimension
            `runs`; the rule's own by default.
        weight_decay: decoupled weight decay.
    """
    own = dict(rule.named_parameters())
    theta = own if theta is None else theta
    module = _Move(rule, task, weight_decay)
    each = any(theta[name].dim() > tensor.dim() for name, tensor in own.items())

    def one(theta: Tensors, *run: object) -> tuple[Tensors, State]:
        moved: tuple[Tensors, State] = functional_call(module, theta, run)
        return moved

    move = torch.vmap(one, in_dims=(0 if each else None, 0, 0, 0, 0), randomness="different")
    named = {f"rule.{name}": tensor for name, tensor in theta.items()}

    def moved(runs: Runs) -> tuple[Tensors, State]:
        run = (runs.parameters, runs.gradients, runs.state, runs.lr)
        first = {name: gradient[0] for name, gradient in runs.gradients.items()}
        # Replayed, a run takes less time by itself than its share of a stack.
        if replays(rule, first) and not rule.watched:
            shared, stacked = ({}, named) if each else (named, {})
            again = replay(rule, task.graph, ("move", weight_decay), partial(_apart, one))
            found = again.each(shared, (stacked, *run), len(runs))
            if found is not None:
                parameters, state = found
                return parameters, state
        return move(named, *run)

    return moved


def _apart(one: Callable[..., object], shared: Tensors, run: tuple[Tensors, ...]) -> object:
    theta, *rest = run
    return one(shared | theta, *rest)


class _Move(nn.Module):
    """One step of the optimizer, as a module, so that theta can be swapped."""

    def __init__(self, rule: Rule, task: Task, weight_decay: float) -> None:
        super().__init__()
        self.rule, self._graph, self._weight_decay = rule, task.graph, weight_decay

    def forward(
        self, parameters: Tensors, gradients: Tensors, state: State, lr: Tensor
    ) -> tuple[Tensors, State]:
        options = dict.fromkeys(parameters, Options(lr, self._weight_decay))
        # Runs whose gradients are not finite have diverged: what becomes of them is not used.
        return changed(parameters, gradients, state, self._graph, self.rule, options)
