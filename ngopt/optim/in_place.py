"""The step of :mod:`ngopt.optim.update` in place."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.magnitudes import all_finite
from ngopt.optim.placement import place
from ngopt.optim.spikes import scaled_down
from ngopt.optim.update import Options, directions, if_finite, move
from ngopt.rules.rule import Moves, Rule, State
from ngopt.rules.shards import Shards


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
    factors: Tensor | None = None,
    shards: Shards | None = None,
) -> Tensor:
    """Do what :func:`~ngopt.optim.update.update` does, but put results in place.

    One parameter after the other, to the last bit: the old and the new state are never there as a
    whole, nor are two sets of parameters. A rule that moves all parameters at once, as the default
    rule does, overwrites their state, and agrees up to rounding.

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
        factors: of the gradients, `(gradients,)`; 1 by default.
        shards: processes that share all these tensors, which are what this one holds of them.

    Returns:
        Whether all gradients are finite, as a 0-dim bool tensor; if not, nothing has changed.
    """
    finite = all_finite(grads) if finite is None else finite
    if shards is not None:
        moves = _moves(params, _annealed(options, rule, state), factors, finite)
        rule.move_in_place(params, grads, state, graph, moves, fresh=fresh, shards=shards)
        return finite
    if rule.moves_in_place(grads) and all(params[name] is param for name, param in due.items()):
        kept.update({param: state[name] for name, param in due.items()})
        moves = _moves(due, _annealed(options, rule, state), factors, finite)
        rule.move_in_place(due, grads, state, graph, moves, fresh=fresh)
        return finite
    grads = scaled_down(grads, factors)
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


def _annealed(options: Mapping[str, Options], rule: Rule, state: State) -> dict[str, Options]:
    """Options of parameters that are about to be moved, annealed if nobody has done it."""
    return {
        name: own if own.annealed is not None else own.at(rule, {"step": state[name]["step"] + 1})
        for name, own in options.items()
    }


def _moves(
    params: Mapping[str, Tensor],
    options: Mapping[str, Options],
    factors: Tensor | None,
    finite: Tensor,
) -> Moves:
    """How the options move parameters, as :func:`~ngopt.optim.update.move` does it."""
    chosen = [options[name] for name in params]
    double = any(param.dtype == torch.float64 for param in params.values())
    like = finite.new_empty((), dtype=torch.float64 if double else torch.float32)
    annealed = [1.0 if o.annealed is None else o.annealed for o in chosen]
    rates = _vector([o.lr * a for o, a in zip(chosen, annealed, strict=True)], like)
    shares = [a.clamp(max=1.0) if isinstance(a, Tensor) else min(1.0, a) for a in annealed]
    decays = [o.lr * o.weight_decay * s for o, s in zip(chosen, shares, strict=True)]
    kept = None
    if any(isinstance(decay, Tensor) or decay for decay in decays):
        kept = 1 - _vector(decays, like)
    if any(o.maximize for o in chosen):
        signs = _vector([-1.0 if o.maximize else 1.0 for o in chosen], like)
        factors = signs if factors is None else signs * factors
    return Moves(rates, kept, factors, finite)


def _vector(numbers: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """Numbers side by side, of a dtype and on a device, which nobody waits for."""
    if any(isinstance(number, Tensor) for number in numbers):
        distinct = {id(number): number for number in numbers}
        tensors = {key: torch.as_tensor(n).to(like) for key, n in distinct.items()}
        return torch.stack([tensors[id(number)] for number in numbers])
    return torch.tensor(numbers, dtype=like.dtype).to(like.device, non_blocking=True)
