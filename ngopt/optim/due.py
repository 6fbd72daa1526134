"""What is due at a step: parameters that have a gradient, and what a rule is given of them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.naming import check_gradient
from ngopt.optim.placement import check_not_captured, gather
from ngopt.optim.update import Options, init_state
from ngopt.rules.rule import Rule, State


class Gathered(NamedTuple):
    """Parameters, gradients and state by name, whole and on one device."""

    params: dict[str, Tensor]
    grads: dict[str, Tensor]
    state: State


def due(
    groups: Iterable[Mapping[str, Any]],
    names: Iterable[Sequence[str]],
    factors: Iterable[float | Tensor],
) -> tuple[dict[str, Tensor], dict[str, Options]]:
    """Parameters that have a gradient, and their options, by name.

    Args:
        groups: the parameter groups of an optimizer.
        names: of the parameters of each group.
        factors: by which the learning rate of each group is annealed.

    Raises:
        GradientError: if a gradient is sparse or complex.
        CaptureError: if a CUDA graph is being captured.
    """
    found: dict[str, Tensor] = {}
    options: dict[str, Options] = {}
    for group, own, factor in zip(groups, names, factors, strict=True):
        shared = Options.of(group, factor)
        for name, param in zip(own, group["params"], strict=True):
            if param.grad is not None:
                check_gradient(name, param.grad)
                found[name], options[name] = param, shared
    for param in islice(found.values(), 1):
        check_not_captured(param.device)
    return found, options


def gathered(
    params: Mapping[str, Tensor],
    kept: Mapping[Tensor, dict[str, Tensor]],
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
    whole = {name: gather(param, device) for name, param in params.items()}
    grads = {n: gather(p.grad, device) for n, p in params.items() if p.grad is not None}
    fresh = {name: whole[name] for name, param in params.items() if param not in kept}
    state = init_state(fresh, graph, rule)
    for name, param in params.items():
        if name not in fresh:
            state[name] = {key: gather(value, device) for key, value in kept[param].items()}
    return Gathered(whole, grads, {name: state[name] for name in params})
