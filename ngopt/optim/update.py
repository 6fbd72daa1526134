"""One step of the optimizer as a pure function: this is the whole algorithm."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ngopt.features.numbers import Number, smaller
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim.magnitudes import all_finite
from ngopt.rules.rule import ParameterUpdate, Rule, State


@dataclass(frozen=True)
class Options:
    """How one parameter is updated.

    Args:
        lr: learning rate; a number or a 0-dim tensor.
        weight_decay: decoupled weight decay, as in AdamW; a number or a 0-dim tensor.
        maximize: whether to go up the gradient.
        annealing_factor: of `lr`, and of the decay where it is below 1; a number or 0-dim tensor.
            By default the rule anneals each parameter by the number of its own steps.
    """

    lr: Number = 1e-3
    weight_decay: Number = 0.0
    maximize: bool = False
    annealing_factor: Number | None = None

    @classmethod
    def of(
        cls,
        group: Mapping[str, Any],
        annealing_factor: Number | None = None,
        weight_decay: Number = 0.0,
    ) -> "Options":
        """Options of a parameter group of any optimizer.

        Args:
            group: the group.
            annealing_factor: as above.
            weight_decay: where the group has none.
        """
        lr: Number = group["lr"]
        lr = lr.reshape(()) if isinstance(lr, Tensor) else lr
        maximize = bool(group.get("maximize", False))
        own = group.get("weight_decay", 0.0)
        return cls(lr, weight_decay if own is None else own, maximize, annealing_factor)

    def with_annealing(self, rule: Rule, state: Mapping[str, Tensor]) -> "Options":
        """Return these options, with the rule's annealing factor if they have none yet.

        Args:
            rule: that anneals.
            state: of the parameter, after the step.
        """
        if self.annealing_factor is not None or "step" not in state:
            return self
        return replace(self, annealing_factor=rule.annealing_factor(state["step"]))


class Updated(NamedTuple):
    """What :func:`update` returns.

    Args:
        params: the new parameters, by name.
        state: the new state, by name of the parameter.
        finite: 0-dim bool tensor; False if a gradient was not finite and nothing has changed.
    """

    params: dict[str, Tensor]
    state: State
    finite: Tensor


def init_state(params: Mapping[str, Tensor], graph: NeuralGraph, rule: Rule) -> State:
    """State of parameters before their first step.

    Args:
        params: parameters by name, of any floating dtype.
        graph: describes them.
        rule: whose state it is.
    """
    return rule.init_state({name: widen(param) for name, param in params.items()}, graph)


def update(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    rule: Rule,
    options: Mapping[str, Options],
    *,
    refresh: bool = True,
    finite: Tensor | None = None,
) -> Updated:
    r"""Do one step: :math:`w \leftarrow w - lr \, (a \, rule(g) + \min(1, a) \, decay \, w)`.

    Here :math:`a` is the factor by which the rule anneals, 1 if it does not.

    Changes none of its arguments, waits for no device, and is differentiable with respect to
    the rule's weights, the parameters and the gradients. If any gradient of any parameter is not
    finite, all parameters and the state come back as they were. Parameters in half precision are
    updated in single precision and rounded once.

    Args:
        params: parameters by name; those without a gradient come back as they are.
        grads: gradients by name, each shaped like its parameter.
        state: from :func:`init_state` or the last step, for each of `grads`.
        graph: describes the parameters.
        rule: turns gradients into updates.
        options: for each of `grads`.
        refresh: whether the rule recomputes its graph context, or uses the cached one.
        finite: whether all gradients are finite, if that is known already; 0-dim.
    """
    finite = all_finite(grads) if finite is None else finite
    # The derivative of a skipped step must be finite, not only its result.
    finite_grads = {name: torch.where(finite, grad, 0.0) for name, grad in grads.items()}
    new_params, new_state = updated(
        params, finite_grads, state, graph, rule, options, refresh=refresh
    )
    for name in grads:
        new_params[name] = torch.where(finite, new_params[name], params[name])
        new_state[name] = if_finite(finite, new_state[name], state[name])
    return Updated(new_params, new_state, finite)


def updated(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    rule: Rule,
    options: Mapping[str, Options],
    *,
    refresh: bool = True,
) -> tuple[dict[str, Tensor], State]:
    """Return the new parameters and state of :func:`update`, if all gradients are finite.

    The arguments are those of :func:`update`.
    """
    new_params, new_state = dict(params), dict(state)
    found = rule_updates(params, grads, state, graph, rule, options, refresh=refresh)
    for name, direction, after in found:
        new_params[name] = move(params[name], direction, options[name].with_annealing(rule, after))
        new_state[name] = after
    return new_params, new_state


def if_finite(
    finite: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Choose the new state of a parameter if all gradients are finite, else the old one.

    After the graph has changed, a rule may restart a tensor in another shape. There is no old one
    of that shape then, and zeros are chosen.
    """
    fits = {key: key in old and old[key].shape == value.shape for key, value in new.items()}
    return {
        key: torch.where(finite, value, old[key] if fits[key] else torch.zeros_like(value))
        for key, value in new.items()
    }


def rule_updates(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: State,
    graph: NeuralGraph,
    rule: Rule,
    options: Mapping[str, Options],
    *,
    refresh: bool = True,
) -> Iterator[ParameterUpdate]:
    """Run the rule in at least single precision, one parameter after the other.

    A parameter and its state may be overwritten or deleted once its update has been yielded. The
    arguments are those of :func:`update`.
    """
    wide = {name: widen(param) for name, param in params.items()}
    gradients = {}
    for name, grad in grads.items():
        signed = -grad if options[name].maximize else grad
        gradients[name] = signed.to(wide[name].dtype)
    method = rule.updates if refresh else rule.updates_from_cache
    return method(wide, gradients, state, graph)


def move(param: Tensor, direction: Tensor, options: Options, *, in_place: bool = False) -> Tensor:
    """Return the parameter after a step along a direction, rounded once to its own dtype.

    Args:
        param: the parameter.
        direction: of the same shape, in at least single precision.
        options: of the parameter.
        in_place: whether the parameter may be overwritten; it is what comes back then, unless it
            is in half precision.
    """
    weight, rate = widen(param), options.lr
    annealing_factor = 1.0 if options.annealing_factor is None else options.annealing_factor
    if isinstance(options.weight_decay, Tensor) or options.weight_decay:
        # Decay shrinks with the steps, as AdamW's does under a schedule, but never grows with them.
        share = smaller(annealing_factor, 1.0)
        multiply = Tensor.mul_ if in_place else torch.mul
        weight = multiply(weight, 1 - rate * options.weight_decay * share)
    rate = rate * annealing_factor
    if isinstance(rate, Tensor):
        direction, rate = rate * direction, 1.0
    subtract = Tensor.sub_ if in_place else torch.sub
    return subtract(weight, direction, alpha=rate).to(param.dtype)


def widen(tensor: Tensor) -> Tensor:
    """Return the tensor in at least single precision."""
    return tensor if tensor.element_size() >= 4 else tensor.float()
