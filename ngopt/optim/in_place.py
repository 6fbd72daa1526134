"""The step of :mod:`ngopt.optim.update`, in place."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ngopt.backends.dispatch import is_free_to_read
from ngopt.features.numbers import Number, smaller
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.gradient_clipper import scale_gradients
from ngopt.optim.magnitudes import all_finite
from ngopt.optim.placement import place
from ngopt.optim.update import Options, if_finite, move, rule_updates
from ngopt.rules.rule import InPlaceOptions, Rule, State
from ngopt.rules.shards import Shards


def update_in_place(
    targets: Mapping[str, Tensor],
    saved_state: MutableMapping[Tensor, Any],
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    rule: Rule,
    options: Mapping[str, Options],
    *,
    refresh: bool = True,
    finite: Tensor | None = None,
    factors: Tensor | None = None,
    shards: Shards | None = None,
    captured: list[object] | None = None,
) -> Tensor:
    """Do what :func:`~ngopt.optim.update.update` does, but put results in place.

    Parameters are updated one after the other, so memory never holds two sets of parameters or two
    states; results are the same to the last bit. A rule that steps in place, like the default rule,
    updates all parameters at once and overwrites their state; it agrees up to rounding.

    Args:
        targets: the optimizer's own tensors, by name: these change.
        saved_state: the optimizer's state, by its own tensors: this is replaced.
        params: the same tensors gathered on one device, or those tensors themselves.
        grads: their gradients, gathered.
        state: their state, gathered; it is emptied on the way.
        graph: describes the parameters.
        rule: turns gradients into updates.
        options: for each of them.
        refresh: whether the rule recomputes its graph context, or uses the cached one.
        finite: whether all gradients are finite, if that is known already; 0-dim.
        factors: of the gradients, `(gradients,)`; 1 by default.
        shards: processes that these tensors are sharded over, which are the local shards then.
        captured: keeps alive what CUDA graphs of such steps read; see :class:`.InPlaceOptions`.

    Returns:
        Whether all gradients are finite, as a 0-dim bool tensor; if not, nothing has changed.
    """
    finite = all_finite(grads) if finite is None else finite
    if shards is not None:
        in_place_options = _in_place_options(
            params, _with_annealing(options, rule, state), factors, finite
        )
        rule.step_in_place(
            params, grads, state, graph, in_place_options, refresh=refresh, shards=shards
        )
        return finite
    if rule.steps_in_place(grads) and all(params[name] is param for name, param in targets.items()):
        saved_state.update({param: state[name] for name, param in targets.items()})
        in_place_options = _in_place_options(
            targets, _with_annealing(options, rule, state), factors, finite
        )
        in_place_options = in_place_options._replace(captured=captured)
        rule.step_in_place(targets, grads, state, graph, in_place_options, refresh=refresh)
        return finite
    grads = scale_gradients(grads, factors)
    # If the answer is free to read, a skipped step computes nothing.
    free_to_read = is_free_to_read(finite)
    if free_to_read and not finite:
        return finite
    found = rule_updates(params, grads, state, graph, rule, options, refresh=refresh)
    for name, direction, after in found:
        param, before = targets[name], state.pop(name)
        if not free_to_read:
            after = if_finite(finite, after, before)
        saved_state[param] = {
            key: place(_own_memory(t, grads[name]), param) for key, t in after.items()
        }
        # Free memory early: the next update is computed while the rest is still there.
        del before, after
        own = free_to_read and params[name] is param
        annealing_factor = options[name].with_annealing(rule, saved_state[param])
        moved = move(params[name], direction, annealing_factor, in_place=own)
        del direction
        if moved is not param:
            param.copy_(
                place(moved if free_to_read else torch.where(finite, moved, params[name]), param)
            )
        del moved
    return finite


def _own_memory(value: Tensor, gradient: Tensor) -> Tensor:
    # A rule may store the gradient itself, which the user will overwrite.
    return value.clone() if value is gradient else value


def _with_annealing(options: Mapping[str, Options], rule: Rule, state: State) -> dict[str, Options]:
    """Options of parameters before their step, with the annealing factor filled in."""
    return {
        name: own
        if own.annealing_factor is not None
        else own.with_annealing(rule, {"step": state[name]["step"] + 1})
        for name, own in options.items()
    }


def _in_place_options(
    params: Mapping[str, Tensor],
    options: Mapping[str, Options],
    factors: Tensor | None,
    finite: Tensor,
) -> InPlaceOptions:
    """The same options as vectors, one number per parameter."""
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
    return InPlaceOptions(vector(rates), kept, factors, finite)


def _factor(options: Options) -> Number:
    return 1.0 if options.annealing_factor is None else options.annealing_factor


def _decay(options: Options) -> Number:
    if isinstance(options.weight_decay, Tensor) or options.weight_decay:
        return options.lr * options.weight_decay * smaller(_factor(options), 1.0)
    return 0.0


def _vector(numbers: Sequence[Number], like: Tensor) -> Tensor:
    """Stack numbers in the dtype and on the device of a tensor, without waiting for the device.

    Python numbers are filled in, not copied from the host, which a CUDA graph could not capture.
    """
    distinct = {id(n) if isinstance(n, Tensor) else n: n for n in numbers}
    there = {
        key: n.to(like) if isinstance(n, Tensor) else like.new_full((), n)
        for key, n in distinct.items()
    }
    if len(there) == 1:
        return next(iter(there.values())).expand(len(numbers))
    return torch.stack([there[id(n) if isinstance(n, Tensor) else n] for n in numbers])
