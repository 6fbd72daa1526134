"""What is due at a step: parameters that have a gradient, and what a rule is given of them."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.features.numbers import Number
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.naming import check_gradient
from ngopt.optim.placement import gather, held, wrapped
from ngopt.optim.update import Options, init_state
from ngopt.rules.rule import Rule, State
from ngopt.rules.shards import Shards


class Gathered(NamedTuple):
    """Parameters, gradients and state by name, whole and on one device.

    Where processes share them, and the rule can step so, they are what this process holds of them.
    """

    params: dict[str, Tensor]
    grads: dict[str, Tensor]
    state: State
    shards: Shards | None = None


def due(
    groups: Iterable[Mapping[str, Any]],
    names: Iterable[Sequence[str]],
    factors: Iterable[Number],
) -> tuple[dict[str, Tensor], dict[str, Options]]:
    """Parameters that have a gradient, and their options, by name.

    Args:
        groups: the parameter groups of an optimizer.
        names: of the parameters of each group.
        factors: by which the learning rate of each group is annealed.

    Raises:
        GradientError: if a gradient is sparse or complex.
    """
    found: dict[str, Tensor] = {}
    options: dict[str, Options] = {}
    for group, own, factor in zip(groups, names, factors, strict=True):
        shared = Options.of(group, factor)
        for name, param in zip(own, group["params"], strict=True):
            if param.grad is not None:
                check_gradient(name, param.grad)
                found[name], options[name] = param, shared
    return found, options


def gathered(
    params: Mapping[str, Tensor],
    kept: MutableMapping[Tensor, dict[str, Tensor]],
    graph: NeuralGraph,
    rule: Rule,
    device: torch.device,
) -> Gathered:
    """Bring together what a rule is given.

    Args:
        params: those that are due, by name.
        kept: the optimizer's state, by its own tensors; what has none yet begins with a fresh one.
        graph: describes the parameters.
        rule: whose state it is.
        device: where the rule is.
    """
    shards = Shards.of(params)
    if shards is not None and rule.elementwise:
        held = _held(params, kept, graph, rule)
        if rule.takes_shards(held.params, held.state, graph, shards):
            return held._replace(shards=shards)
    whole = {name: gather(param, device) for name, param in params.items()}
    grads = {n: gather(p.grad, device) for n, p in params.items() if p.grad is not None}
    fresh = {name: whole[name] for name, param in params.items() if param not in kept}
    state = init_state(fresh, graph, rule)
    for name, param in params.items():
        if name not in fresh:
            state[name] = {key: gather(value, device) for key, value in kept[param].items()}
    return Gathered(whole, grads, {name: state[name] for name in params})


def _held(
    params: Mapping[str, Tensor],
    kept: MutableMapping[Tensor, dict[str, Tensor]],
    graph: NeuralGraph,
    rule: Rule,
) -> Gathered:
    """What this process holds of all that a rule is given; what has no state yet gets one."""
    local = {name: held(param) for name, param in params.items()}
    grads = {n: held(p.grad) for n, p in params.items() if p.grad is not None}
    state = {}
    for name, param in params.items():
        if param not in kept:
            own = rule.init_state({name: local[name]}, graph)[name]
            shared = {key: wrapped(own[key], param) for key in rule.elementwise}
            kept[param] = {**own, **shared}
        for key, value in kept[param].items():
            if key not in rule.elementwise:
                kept[param][key] = gather(value, local[name].device)
        state[name] = {
            key: held(value) if key in rule.elementwise else value
            for key, value in kept[param].items()
        }
    return Gathered(local, grads, state)
