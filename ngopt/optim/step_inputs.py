"""Inputs of a step: the parameters that have a gradient, their options, gradients and state."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.features.numbers import Number
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.parameter_groups import check_gradient
from ngopt.optim.placement import as_shard_of, gather, gather_all, local_shard
from ngopt.optim.update import Options, init_state
from ngopt.rules.rule import Rule, State
from ngopt.rules.shards import Shards


class StepInputs(NamedTuple):
    """Parameters, gradients and state by name, whole and on one device.

    With `shards`, the tensors are sharded over processes and these are the local shards.
    """

    params: dict[str, Tensor]
    grads: dict[str, Tensor]
    state: State
    shards: Shards | None = None


def select_parameters(
    groups: Iterable[Mapping[str, Any]],
    names: Iterable[Sequence[str]],
    factors: Iterable[Number],
    decays: Iterable[Number | None],
) -> tuple[dict[str, Tensor], dict[str, Options]]:
    """Select the parameters that have a gradient.

    Args:
        groups: the parameter groups of an optimizer.
        names: of the parameters of each group.
        factors: annealing factor of the learning rate of each group.
        decays: weight decay of the matrices of each group whose own is None.

    Returns:
        The parameters and their options, both by name.

    Raises:
        GradientError: if a gradient is sparse or complex.
    """
    found: dict[str, Tensor] = {}
    options: dict[str, Options] = {}
    for group, own, factor, decay in zip(groups, names, factors, decays, strict=True):
        either = options_by_matrix(group, factor, decay)
        for name, param in zip(own, group["params"], strict=True):
            if param.grad is not None:
                check_gradient(name, param.grad)
                found[name], options[name] = param, either[param.dim() > 1]
    return found, options


def options_by_matrix(
    group: Mapping[str, Any], factor: Number, decay: Number | None
) -> dict[bool, Options]:
    """Options of the tensors of a group that have two or more dimensions, and of the others.

    Args:
        group: a parameter group of an optimizer.
        factor: annealing factor of its learning rate.
        decay: weight decay of the former if that of the group is None.
    """
    shared = Options.of(group, factor)
    return {False: shared, True: shared if decay is None else Options.of(group, factor, decay)}


def gather_inputs(
    params: Mapping[str, Tensor],
    saved: MutableMapping[Tensor, dict[str, Tensor]],
    graph: NeuralGraph,
    rule: Rule,
    device: torch.device,
) -> StepInputs:
    """Gather the inputs of a rule.

    Args:
        params: those that have a gradient, by name.
        saved: the optimizer's state, by its own tensors; new parameters get an initial state.
        graph: describes the parameters.
        rule: whose state it is.
        device: where the rule is.
    """
    shards = Shards.of(params)
    if shards is not None and rule.elementwise:
        local = _local_inputs(params, saved, graph, rule)
        if rule.supports_shards(local.params, local.state, graph, shards):
            return local._replace(shards=shards)
    whole = gather_all(params, device)
    grads = gather_all({n: p.grad for n, p in params.items() if p.grad is not None}, device)
    new = {name: whole[name] for name, param in params.items() if param not in saved}
    state = init_state(new, graph, rule)
    for name, param in params.items():
        if name not in new:
            state[name] = gather_all(saved[param], device)
    return StepInputs(whole, grads, {name: state[name] for name in params})


def _local_inputs(
    params: Mapping[str, Tensor],
    saved: MutableMapping[Tensor, dict[str, Tensor]],
    graph: NeuralGraph,
    rule: Rule,
) -> StepInputs:
    """The local shards of all inputs; parameters without a state get an initial one."""
    local = {name: local_shard(param) for name, param in params.items()}
    grads = {n: local_shard(p.grad) for n, p in params.items() if p.grad is not None}
    state = {}
    for name, param in params.items():
        if param not in saved:
            own = rule.init_state({name: local[name]}, graph)[name]
            shared = {key: as_shard_of(own[key], param) for key in rule.elementwise}
            saved[param] = {**own, **shared}
        for key, value in saved[param].items():
            if key not in rule.elementwise:
                saved[param][key] = gather(value, local[name].device)
        state[name] = {
            key: local_shard(value) if key in rule.elementwise else value
            for key, value in saved[param].items()
        }
    return StepInputs(local, grads, state)
