"""The step of :mod:`ngopt.optim.update` in place, one parameter at a time."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.placement import place
from ngopt.optim.update import Options, all_finite, directions, if_finite, move
from ngopt.rules.rule import Rule, State


def update_in_place(
    due: Mapping[str, Tensor],
    kept: MutableMapping[Tensor, Any],
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    rule: Rule,
    options: Mapping[str, Options],
    *,
    fresh: bool = True,
    finite: Tensor | None = None,
) -> Tensor:
    """Do what :func:`~ngopt.optim.update.update` does, to the last bit, but put results in place.

    The old and the new state are never there as a whole, nor are two sets of parameters. State
    tensors are replaced, not overwritten, so that a `state_dict` stays a snapshot.

    Args:
        due: the optimizer's own tensors, by name: these change.
        kept: the optimizer's state, by its own tensors: this is replaced.
        params: the same tensors gathered on one device, or those tensors themselves.
        grads: their gradients, gathered.
        state: their state, gathered; it is emptied on the way.
        graph: describes the parameters.
        rule: turns gradients into updates.
        options: for each of them.
        fresh: whether the rule looks at the whole model, or goes by what it last saw of it.
        finite: whether all gradients are finite, if that is known already; 0-dim.

    Returns:
        Whether all gradients are finite, as a 0-dim bool tensor; if not, nothing has changed.
    """
    finite = all_finite(grads) if finite is None else finite
    # Where nothing has to be waited for, nothing is computed to be thrown away.
    sure = finite.device.type == "cpu"
    if sure and not finite:
        return finite
    found = directions(params, grads, state, graph, rule, options, fresh=fresh)
    for name, direction, after in found:
        param, before = due[name], state.pop(name)
        if not sure:
            after = if_finite(finite, after, before)
        kept[param] = {key: place(_own(t, grads[name]), param) for key, t in after.items()}
        # Each goes as early as it can: the next change is computed beside what is left.
        del before, after
        own = sure and params[name] is param
        annealed = options[name].at(rule, kept[param])
        moved = move(params[name], direction, annealed, in_place=own)
        del direction
        if moved is not param:
            param.copy_(place(moved if sure else torch.where(finite, moved, params[name]), param))
        del moved
    return finite


def _own(value: Tensor, gradient: Tensor) -> Tensor:
    # A rule may remember the gradient itself, which the user will overwrite.
    return value.clone() if value is gradient else value
