"""The step of :mod:`ngopt.optim.update` in place."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ngopt.backends.switch import known_at_once
from ngopt.features.numbers import Number, smaller
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
    captured: list[object] | None = None,
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
        captured: what CUDA graphs of such steps need is put there; see :class:`.Moves`.

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
        moves = moves._replace(captured=captured)
        rule.move_in_place(due, grads, state, graph, moves, fresh=fresh)
        return finite
    grads = scaled_down(grads, factors)
    # Where nothing has to be waited for, nothing is computed to be thrown away.
    sure = known_at_once(finite)
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
    # All parameters of a group share their options.
    distinct = {id(own): own for own in chosen}
    rates = {key: own.lr * _factor(own) for key, own in distinct.items()}
    decays = {key: _decay(own) for key, own in distinct.items()}

    def vector(numbers: Mapping[int, Number]) -> Tensor:
        return _vector([numbers[id(own)] for own in chosen], like)

    kept = None
    if any(isinstance(decay, Tensor) or decay for decay in decays.values()):
        kept = 1 - vector(decays)
    if any(o.maximize for o in chosen):
        signs = vector({key: -1.0 if own.maximize else 1.0 for key, own in distinct.items()})
        factors = signs if factors is None else signs * factors
    return Moves(vector(rates), kept, factors, finite)


def _factor(options: Options) -> Number:
    return 1.0 if options.annealed is None else options.annealed


def _decay(options: Options) -> Number:
    if isinstance(options.weight_decay, Tensor) or options.weight_decay:
        return options.lr * options.weight_decay * smaller(_factor(options), 1.0)
    return 0.0


def _vector(numbers: Sequence[Number], like: Tensor) -> Tensor:
    """Numbers side by side, of a dtype and on a device, which nobody waits for.

    Numbers of Python are filled in, not copied from the host: that could not be captured.
    """
    distinct = {id(n) if isinstance(n, Tensor) else n: n for n in numbers}
    there = {
        key: n.to(like) if isinstance(n, Tensor) else like.new_full((), n)
        for key, n in distinct.items()
    }
    if len(there) == 1:
        return next(iter(there.values())).expand(len(numbers))
    return torch.stack([there[id(n) if isinstance(n, Tensor) else n] for n in numbers])
