"""The optimizer that users see: a `torch.optim.Optimizer` around `ngopt.optim.update`."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ngopt.backends.dispatch import capturing, is_free_to_read, uncompiled
from ngopt.features.numbers import Number
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.optim import annealing, checkpoint, joined_graph, parameter_groups
from ngopt.optim.context_refresh import ContextRefresh
from ngopt.optim.cuda_graphs import CapturePreparation, capturable, check_capture
from ngopt.optim.deferred_tracing import await_first_forward, warn_untraced
from ngopt.optim.gradient_clipper import GradientClipper
from ngopt.optim.in_place import update_in_place
from ngopt.optim.parameter_names import ParameterNames
from ngopt.optim.placement import place, placed_rule, without_autocast
from ngopt.optim.step_inputs import StepInputs, gather_inputs, select_parameters
from ngopt.optim.update import Options, Updated, update
from ngopt.rules.library import load_rule
from ngopt.rules.rule import Rule
from ngopt.rules.shards import Shards

Loss = TypeVar("Loss")


class NeuralGraphOptimizer(Optimizer):
    """A learned optimizer that sees the model as a graph of its neurons.

    Used like any optimizer of torch, with its schedulers, scalers, hooks and checkpoints. Given
    a model, it sees the whole network, whose graph is traced during the first forward pass. Given
    tensors alone, it treats each of them by itself.

    Args:
        params_or_model: an iterable of tensors, of (name, tensor), or of parameter groups, or an
            `nn.Module`. A group is a dict with `params`, or with `model`, or with both: its tensors
            are then found in that model.
        lr: learning rate; a number or a one-element tensor; by default the one that the rule was
            meta-trained at. In a compiled step only a tensor can be scheduled without compiling
            again.
        weight_decay: decoupled weight decay, as in AdamW; it shrinks as steps do. By default the
            rule's own, which grows with the number of steps, and spares tensors with less than two
            dimensions, such as biases and norms.
        anneal: whether steps shrink with their number by themselves. By default they do until the
            script lowers the learning rate, by a scheduler or by hand; then they shrink as it says,
            and no more. True: always, beside any schedule. False: never.
        rule: a rule, or the name or path of one; see `ngopt.list_rules()`.
        graph: the model's graph, from `ngopt.trace(model, *inputs)`, instead of tracing.
        model: the model that the given tensors belong to.
        maximize: go up the gradient.
        capturable: whether steps can be captured in a CUDA graph, after steps outside of it with
            gradients of the same parameters. `lr` should be a tensor on the GPU then: replays would
            not see a changed number. Each replay recomputes the graph context. Only for rules that
            step in place: `default`, `light` and `no_graph`. After loading a state dict, capture
            again.
        **others: none; options of other optimizers, such as `betas`, raise an error that says why
            they have no meaning here.

    If any gradient is not finite, that step changes nothing and is counted in `skipped_steps`. A
    gradient more than a hundred times as large as usual is clipped to a hundred times.
    Parameters sharded by FSDP2 are gathered for the step, and their state is stored sharded.

    Raises:
        OptionError: if an option makes no sense, or a parameter is given twice.
        GradientError: if a parameter is complex; at a step, if a gradient is sparse.
        GraphError: if `graph` or `model` does not fit the parameters.
        RuleError: if the rule is unknown or damaged.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
        >>> optimizer = NeuralGraphOptimizer(model)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(1, 2)).square().sum().backward()
        ...     optimizer.step()
        >>> optimizer.skipped_steps
        0
    """

    _given_graph: NeuralGraph | None = None
    _models_to_trace: dict[nn.Module, str] | None = None
    _capture_preparation: CapturePreparation | None = None

    def __init__(
        self,
        params_or_model: Any,
        lr: float | Tensor | None = None,
        *,
        weight_decay: float | Tensor | None = None,
        anneal: bool | None = None,
        rule: Rule | str = "default",
        graph: NeuralGraph | None = None,
        model: nn.Module | None = None,
        maximize: bool = False,
        capturable: bool = False,
        **others: Any,
    ) -> None:
        parameter_groups.refuse_options(others)
        self._rule = rule if isinstance(rule, Rule) else load_rule(rule)
        self._given_graph = graph
        self._traced = joined_graph.join(joined_graph.EMPTY, graph or joined_graph.EMPTY)
        self._graph = self._traced
        self._parameter_names = ParameterNames()
        self._skipped_steps = torch.zeros((), dtype=torch.int64)
        self._untraced: set[str] = set()
        self._context_refresh = ContextRefresh()
        self._clipper = GradientClipper()
        self._captured: list[object] = []
        self._models_to_trace = {}
        lr = self._rule.lr if lr is None else lr
        defaults = {"lr": lr, "weight_decay": weight_decay, "maximize": maximize}
        defaults["capturable"] = capturable
        defaults |= annealing.DEFAULTS | {"anneal": anneal}
        parameter_groups.check_group(defaults, (), set())
        super().__init__(parameter_groups.as_groups(params_or_model, model), defaults)
        if graph is not None:
            joined_graph.check_fit(graph, self._tensors())
            self._given_graph = None
        # Last, so that refused arguments leave no hooks in models.
        for waiting, prefix in self._models_to_trace.items():
            await_first_forward(waiting, self, prefix)
        self._models_to_trace = None

    @property
    def rule(self) -> Rule:
        """The rule; it is moved to the device of the parameters when a step needs it there."""
        return self._rule

    @property
    def graph(self) -> NeuralGraph:
        """What is known of the parameters now, traced where possible, tensor by tensor elsewhere.

        It describes no tensor of a lazy module that has no shape yet.
        """
        return joined_graph.complete(self._traced, self._shaped())

    @property
    def skipped_steps(self) -> int:
        """Number of steps that were skipped for a gradient that was not finite."""
        return int(self._skipped_steps)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Args:
            param_group: `params`, or `model`, or both, and options of this group.

        Raises:
            OptionError: if an option makes no sense, or a parameter is given twice.
            GradientError: if a parameter is complex.
            GraphError: if none of the parameters is in `model`.
        """
        group, model = parameter_groups.as_group(param_group)
        parameter_groups.refuse_group_options(group)
        given = parameter_groups.named_tensors(group)
        tensors = [tensor for _, tensor in given]
        held = self._tensors()
        parameter_groups.check_group(group, tensors, set(held.values()))
        prefix = parameter_groups.prefix(model, held) if model is not None else ""
        known = parameter_groups.known_names(given, model, prefix, self._given_graph)
        names = parameter_groups.name_all(given, known, list(held))
        annealing.copy_clock(group)
        super().add_param_group(group)
        self._rename({name: known[tensor] for name, tensor in held.items() if tensor in known})
        self._parameter_names.add(names, tensors)
        if model is not None:
            self._parameter_names.add_model(model, prefix)
        if model is not None and self._given_graph is None:
            self._await(model, prefix)

    def receive(self, graph: NeuralGraph, prefix: str) -> None:
        """Take the traced graph of a model; called at the end of its first forward pass."""
        graph = joined_graph.rename_parameters(graph, lambda name: prefix + name, prefix)
        before, self._traced = self._traced, joined_graph.join(self._traced, graph)
        self._graph = self._traced
        self._untraced.discard(prefix)
        if self._traced != before:  # the same graph may be traced again after loading
            self._context_refresh.forget()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Update all parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients anew; called once.

        Returns:
            What `closure` returned.

        Raises:
            GradientError: if a gradient is sparse or complex; nothing has changed then.
            GraphError: if a parameter has got another shape since; nothing has changed then.
            CaptureError: if a CUDA graph is being captured and this step cannot be part of it;
                nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params, options, clocks = self._select_parameters(torch.compiler.is_compiling())
        if params:
            refresh = self._begin_step(params)
            rule, inputs = self._gather_inputs(params)
            compiled = torch.compiler.is_compiling()
            grads, factors, finite = self._clip_gradients(inputs.grads, compiled, inputs.shards)
            # Rules choose their own precision; autocast would round their matrix products.
            no_autocast = without_autocast(next(iter(params.values())).device)
            if compiled:
                with no_autocast:
                    new = update(
                        inputs.params,
                        grads,
                        inputs.state,
                        self._graph,
                        rule,
                        options,
                        refresh=refresh,
                        finite=finite,
                    )
                self._store(params, new, clocks)
            else:
                with no_autocast:
                    captured = self._captured if capturable(self.param_groups) else None
                    update_in_place(
                        params,
                        self.state,
                        inputs.params,
                        grads,
                        inputs.state,
                        self._graph,
                        rule,
                        options,
                        refresh=refresh,
                        finite=finite,
                        factors=factors,
                        shards=inputs.shards,
                        captured=captured,
                    )
                    self._count(finite, clocks)
                    if captured is not None:
                        self._prepare_capture(params)
        return loss

    # Everything but update() handles Python objects only, which would cause recompilations.
    @uncompiled
    def _select_parameters(
        self, compiled: bool
    ) -> tuple[dict[str, Tensor], dict[str, Options], list[annealing.Clock]]:
        """Parameters with a gradient, their options, and the annealing clock of each group."""
        self._check_capture()
        for group in self.param_groups:
            annealing.match_device(group)
        pairs = [annealing.next_clock(group, self._rule) for group in self.param_groups]
        # Compiled code would be compiled again for each new Python number.
        clocks = [clock for clock, _ in pairs]
        factors = [_tensor(factor) if compiled else factor for _, factor in pairs]
        decays = [
            annealing.weight_decay(group, clock, self._rule)
            for group, clock in zip(self.param_groups, clocks, strict=True)
        ]
        if compiled:
            decays = [None if decay is None else _tensor(decay) for decay in decays]
        return *select_parameters(self.param_groups, self._names, factors, decays), clocks

    def _check_capture(self) -> None:
        groups = self.param_groups
        given = (p.device for group in groups for p in group["params"] if p.grad is not None)
        if any(map(capturing, islice(given, 1))):
            params = {n: p for n, p in self._tensors().items() if p.grad is not None}
            check_capture(
                groups, params, self.state, self._rule, self._graph, self._capture_preparation
            )

    @uncompiled
    def _begin_step(self, params: Mapping[str, Tensor]) -> bool:
        """Begin a step, and return whether the rule recomputes its graph context.

        In a CUDA graph it does so at each replay, since replays do not know their step number.
        """
        captured = capturing(next(iter(params.values())).device)
        return self._context_refresh.begin_step(params, 1 if captured else self._rule.refresh_every)

    def _prepare_capture(self, params: Mapping[str, Tensor]) -> None:
        """Note what this step prepared for a CUDA graph; in a capture, keep its tensors alive."""
        if capturing(next(iter(params.values())).device):
            self._captured.append(self._clipper.index)
        else:
            self._capture_preparation = CapturePreparation.of(params, self._graph)

    @uncompiled
    def _clip_gradients(
        self, gradients: dict[str, Tensor], compiled: bool, shards: Shards | None
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor]:
        """Gradients, factors that are still to be applied (or None), and whether all are finite."""
        limit = self._rule.spike_limit
        if compiled:
            clipped, finite = self._clipper.clipped(gradients, limit)
            return clipped, None, finite
        return gradients, *self._clipper.factors(gradients, limit, shards)

    @uncompiled
    def _gather_inputs(self, params: Mapping[str, Tensor]) -> tuple[Rule, StepInputs]:
        """The rule and its inputs, on the device of the first parameter."""
        self._warn_if_untraced()
        graph = joined_graph.complete(self._graph, params)
        if graph is not self._graph:
            known = {n: self.state[p] for n, p in params.items() if p in self.state}
            checkpoint.check_state(known, params, self._rule)
            self._graph = graph
        device = next(iter(params.values())).device
        rule = placed_rule(self._rule, device)
        return rule, gather_inputs(params, self.state, graph, rule, device)

    @uncompiled
    def _store(
        self, params: Mapping[str, Tensor], new: Updated, clocks: Iterable[annealing.Clock]
    ) -> None:
        for name, param in params.items():
            param.copy_(place(new.params[name], param))
            self.state[param] = {k: place(v, param) for k, v in new.state[name].items()}
        self._count(new.finite, clocks)

    def _count(self, finite: Tensor, clocks: Iterable[annealing.Clock]) -> None:
        """Remember that there was a step, and whether it was skipped."""
        for group, clock in zip(self.param_groups, clocks, strict=True):
            if any(param.grad is not None for param in group["params"]):
                annealing.store_clock(group, clock, finite)
        known = is_free_to_read(finite) and bool(finite)
        if not (known or finite.is_meta):  # on the meta device nobody knows whether it was
            self._skipped_steps = self._skipped_steps.to(finite.device)
            self._skipped_steps += ~finite

    def _warn_if_untraced(self) -> None:
        if self._untraced:
            self._untraced.clear()
            warn_untraced(stacklevel=7)

    def restart(self) -> None:
        """Begin annealing anew, as for new data: steps are full again as soon as gradients agree.

        What is known of past gradients is kept. A learning rate that the script has changed counts
        as constant from now on. It holds for replays of CUDA graphs, too.
        """
        for group in self.param_groups:
            annealing.restart(group)
        for state in self.state.values():
            if "evidence" in state:
                state["evidence"].zero_()
        self._context_refresh.forget()  # the cached context holds the old evidence

    def __repr__(self) -> str:
        """As of any optimizer of torch, with annealing in words."""
        groups = (
            f"\nParameter Group {number}\n{annealing.describe(group, self._rule)}"
            for number, group in enumerate(self.param_groups)
        )
        return f"{type(self).__name__} ({''.join(groups)})"

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state dict, and under `"ngopt"` what belongs to the whole optimizer.

        All of it can be stored with `torch.save` and loaded with `weights_only=True`.
        """
        # Torch cannot save the state of tensors that were removed from the groups.
        held = set(self._tensors().values())
        gone = {p: self.state.pop(p) for p in list(self.state) if _is_absent(p, held)}
        try:
            state_dict = super().state_dict()
        finally:
            self.state.update(gone)
        names = list(self._tensors())
        # The layout of a tensor whose shape has changed could not be loaded.
        graph = joined_graph.without_stale(self._traced, self._shaped())
        extra = checkpoint.Extra(
            names, graph, self.skipped_steps, self._context_refresh, self._clipper
        )
        return {**state_dict, checkpoint.KEY: extra.as_plain(self._rule)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned. It is copied, and keeps its dtypes.

        CUDA graphs that were captured before go on with the old state: capture anew.

        Raises:
            GraphError: if it was saved for parameters of other shapes.
            RuleError: if it was saved with another rule.
            ValueError: if it was saved for other parameter groups.
        """
        with checkpoint.loading(self, self._tensors(), self._rule, self._restore):
            super().load_state_dict(dict(state_dict))

    def __getstate__(self) -> dict[str, Any]:
        own = ("_rule", "_parameter_names", "_traced", "_graph", "_skipped_steps", "_untraced")
        kept = {name: self.__dict__[name] for name in (*own, "_context_refresh", "_clipper")}
        return {**super().__getstate__(), **kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_captured", [])
        self._capture_preparation = None
        for group in self.param_groups:
            group.setdefault("weight_decay", 0.0)
            group.setdefault("maximize", False)
            group.setdefault("capturable", False)
            for key, value in annealing.DEFAULTS.items():
                group.setdefault(key, value)

    @property
    def _names(self) -> list[list[str]]:
        """Names of the parameters of each group, whatever has become of the groups."""
        return self._parameter_names.names(self.param_groups, self.state)

    def _tensors(self) -> dict[str, Tensor]:
        """All parameters by name, in the order of the groups."""
        groups = zip(self._names, self.param_groups, strict=True)
        return {
            n: t for names, group in groups for n, t in zip(names, group["params"], strict=True)
        }

    def _shaped(self) -> dict[str, Tensor]:
        """Those that have a shape already."""
        return {n: t for n, t in self._tensors().items() if not is_lazy(t)}

    def _rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names: of a model that has changed, or that is known only now."""
        self._parameter_names.rename(names)
        for kept in (self._context_refresh.since, self._clipper.places):
            renamed = {names.get(name, name): value for name, value in kept.items()}
            kept.clear()
            kept.update(renamed)

    def _restore(self, extra: checkpoint.Extra) -> None:
        self._skipped_steps = torch.tensor(extra.skipped)
        self._context_refresh, self._clipper = extra.context_refresh, extra.clipper
        if not self._traced.layouts:
            self._traced = self._graph = extra.graph

    def _await(self, model: nn.Module, prefix: str) -> None:
        self._untraced.add(prefix)
        if self._models_to_trace is None:
            await_first_forward(model, self, prefix)
        else:
            self._models_to_trace[model] = prefix


def _tensor(number: Number) -> Tensor:
    if isinstance(number, Tensor):
        return number
    # Whatever the default device and dtype are.
    return torch.tensor(number, dtype=torch.float32, device="cpu")


def _is_absent(key: Any, held: set[Tensor]) -> bool:
    return isinstance(key, Tensor) and key not in held
