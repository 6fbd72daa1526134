"""NeuralGraphOptimizer in the inner loops of `higher`, which one can differentiate through.

`import ngopt` imports this module where `higher` is installed, which takes milliseconds.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim import annealing, joined_graph, parameter_groups
from ngopt.optim.deferred_tracing import await_first_forward
from ngopt.optim.magnitudes import all_finite
from ngopt.optim.optimizer import NeuralGraphOptimizer
from ngopt.optim.placement import placed_rule
from ngopt.optim.step_inputs import options_by_matrix
from ngopt.optim.update import Options, init_state, update
from ngopt.rules.rule import State

with warnings.catch_warnings():
    # Python warns of its docstrings when it compiles them, which may not break `import ngopt`.
    warnings.simplefilter("ignore")
    from higher.optim import DifferentiableOptimizer, register_optim


class DifferentiableNeuralGraphOptimizer(DifferentiableOptimizer):  # type: ignore[misc]
    """The steps of a :class:`.NeuralGraphOptimizer`, as functions of theta, lr and the parameters.

    `higher.innerloop_ctx(model, optimizer)` makes one. It goes on where the optimizer is, with its
    rule, graph, options and copies of its state, and leaves the optimizer as it is. Options that
    are tensors pass meta-gradients on to the tensors given to the optimizer. If the model has not
    been traced yet, the first forward pass of its functional copy is, for the optimizer too.

    Args:
        other: the optimizer.
        reference_params: parameters of the model.
        fmodel: functional copy of the model, which holds the fast weights.
        device: where to put the copies of the state; by default they stay where they are.
        override: options to use instead, each as a list of one value, or of one for each group.
        **kwargs: more arguments of `higher.optim.DifferentiableOptimizer`.

    As in the optimizer, a step whose gradients are not all finite changes nothing and is counted,
    here in the attribute `skipped_steps`.

    Example:
        >>> import higher
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
        >>> optimizer = NeuralGraphOptimizer(model)
        >>> with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        ...     for _ in range(3):
        ...         _ = diffopt.step(fmodel(torch.ones(1, 2)).square().sum())
        ...     fmodel(torch.ones(1, 2)).square().sum().backward()
        >>> any(p.grad is not None for p in optimizer.rule.parameters())
        True
    """

    def __init__(
        self,
        other: NeuralGraphOptimizer,
        reference_params: Iterable[Tensor],
        fmodel: Any = None,
        device: torch.device | None = None,
        override: dict[str, list[Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        # higher would copy options deeply, which cuts tensors off from the meta-gradient.
        groups = [{"params": group["params"]} for group in other.param_groups]
        bare = SimpleNamespace(param_groups=groups, state=other.state)
        super().__init__(bare, reference_params, fmodel, device, **kwargs)
        for group, original in zip(self.param_groups, other.param_groups, strict=True):
            options = {key: value for key, value in original.items() if key != "params"}
            group.update({k: v.clone() if isinstance(v, Tensor) else v for k, v in options.items()})
        if override is not None:
            self._apply_override(override)
        self._optimizer = other
        self._context_refresh = deepcopy(other._context_refresh)
        self._frozen: set[int] = set()
        self.skipped_steps = 0
        if fmodel is not None and fmodel.fast_params is not None:
            self._await_graph(fmodel)

    def step(self, loss: Tensor, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Update the fast weights.

        Args:
            loss: 0-dim; depends on the fast weights.
            *args: as for `higher.optim.DifferentiableOptimizer.step`.
            **kwargs: as for `higher.optim.DifferentiableOptimizer.step`.

        Returns:
            The new fast weights, in the order of the model's parameters.

        Raises:
            GradientError: if a gradient is sparse or complex.
        """
        params: list[Tensor] = super().step(loss, *args, **kwargs)
        for index in self._frozen:
            params[index].requires_grad_(False)  # higher thaws them where it does not track
        return params

    def _update(self, grouped_grads: Sequence[Sequence[Tensor | None]], **kwargs: Any) -> None:
        params: dict[str, Tensor] = {}
        grads: dict[str, Tensor] = {}
        options: dict[str, Options] = {}
        places: dict[str, tuple[int, int]] = {}
        clocks: list[annealing.Clock] = []
        self._frozen = set()
        for number, (group, names) in enumerate(
            zip(self.param_groups, self._optimizer._names, strict=True)
        ):
            annealing.match_device(group)
            clock, factor = annealing.next_clock(group, self._optimizer.rule)
            decay = annealing.weight_decay(group, clock, self._optimizer.rule)
            either = options_by_matrix(group, factor, decay)
            clocks.append(clock)
            for index, (name, param) in enumerate(zip(names, group["params"], strict=True)):
                gradient = grouped_grads[number][index]
                if not param.requires_grad:
                    self._frozen.add(self._group_to_param_list[number][index])
                if gradient is not None:
                    parameter_groups.check_gradient(name, gradient)
                    params[name], grads[name] = param, gradient
                    options[name], places[name] = either[param.dim() > 1], (number, index)
        if not all_finite(grads):
            # To compute the step and discard it would leave its derivatives, which are not finite.
            self.skipped_steps += 1
        elif params:
            for number in {number for number, _ in places.values()}:
                self.param_groups[number].update(clocks[number]._asdict())
            graph = self._graph(params)
            with torch.set_grad_enabled(self._track_higher_grads):
                state = self._state(params, places, graph)
                rule = self._optimizer.rule
                refresh = self._context_refresh.begin_step(params, rule.refresh_every)
                new = update(params, grads, state, graph, rule, options, refresh=refresh)
            for name, (number, index) in places.items():
                self.param_groups[number]["params"][index] = new.params[name]
                self.state[number][index] = new.state[name]

    def _graph(self, params: Mapping[str, Tensor]) -> NeuralGraph:
        """What the optimizer knows of the parameters, with its rule on their device."""
        optimizer, device = self._optimizer, next(iter(params.values())).device
        optimizer._warn_if_untraced()
        placed_rule(optimizer.rule, device)
        optimizer._graph = joined_graph.complete(optimizer._graph, params)
        return optimizer._graph

    def _state(
        self,
        params: Mapping[str, Tensor],
        places: Mapping[str, tuple[int, int]],
        graph: NeuralGraph,
    ) -> State:
        kept = {name: self.state[number].get(index) for name, (number, index) in places.items()}
        new = {name: params[name] for name, state in kept.items() if state is None}
        begun = init_state(new, graph, self._optimizer.rule)
        return {name: begun[name] if state is None else state for name, state in kept.items()}

    def _await_graph(self, fmodel: Any) -> None:
        """Have the forward pass of the copies of models traced that wait for their first one."""
        optimizer, fast = self._optimizer, fmodel.fast_params
        names = {
            fast[index]: name
            for indices, group in zip(self._group_to_param_list, optimizer._names, strict=True)
            for index, name in zip(indices, group, strict=True)
        }
        for prefix in optimizer._untraced:
            copies = (module for module in fmodel.modules() if _is_named(module, prefix, names))
            for copy in islice(copies, 1):
                fmodel.register_forward_pre_hook(_take_fast_weights, with_kwargs=True)
                await_first_forward(copy, optimizer, prefix)


def _is_named(module: nn.Module, prefix: str, names: Mapping[Tensor, str]) -> bool:
    """Whether the names of a module's parameters, behind the prefix, are those given."""
    own = [(prefix + name, names.get(p, "")) for name, p in module.named_parameters()]
    return any(known for _, known in own) and all(known in ("", name) for name, known in own)


def _take_fast_weights(
    fmodel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # Weights given to this very call must be known as the parameters before it is traced.
    weights = kwargs.pop("params", None)
    if weights is not None:
        fmodel.update_params(weights)
    return args, kwargs


register_optim(NeuralGraphOptimizer, DifferentiableNeuralGraphOptimizer)
