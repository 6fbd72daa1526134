"""Base of all rules: from gradients and a graph to the update and new state of each parameter."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ngopt.features.numbers import Number
from ngopt.graph.bundle import Bundle
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.shards import Shards

CACHE_SIZE = 24
"""Number of things that :meth:`Rule.cached` keeps, the last ones used."""

Cached = TypeVar("Cached")

State: TypeAlias = dict[str, dict[str, Tensor]]
"""For each parameter by name: the tensors of its optimizer state, by name."""


class ParameterUpdate(NamedTuple):
    """The update and the new state of one parameter.

    Args:
        name: of the parameter.
        update: of its shape and dtype.
        state: its new state.
    """

    name: str
    update: Tensor
    state: dict[str, Tensor]


class InPlaceOptions(NamedTuple):
    """Options of a step in place: a parameter becomes `kept * parameter - rate * update`.

    Args:
        rates: learning rate of each parameter, `(parameters,)`.
        kept: share of each parameter that weight decay leaves, `(parameters,)`; None for all of it.
        factors: factor of each gradient, `(parameters,)`; None for 1.
        finite: whether all gradients are finite, 0-dim; if not, nothing changes.
        captured: list that keeps alive what replays of a CUDA graph of this step will read; None if
            steps are never captured.
    """

    rates: Tensor
    kept: Tensor | None
    factors: Tensor | None
    finite: Tensor
    captured: list[object] | None = None

    def select(self, places: Sequence[int]) -> "InPlaceOptions":
        """The options of some parameters, by their indices."""

        def own(numbers: Tensor) -> Tensor:
            return torch.stack([numbers[place] for place in places])  # without a copy of places

        kept, factors = (n if n is None else own(n) for n in (self.kept, self.factors))
        return InPlaceOptions(own(self.rates), kept, factors, self.finite, self.captured)


class DiagnosticsCallback(Protocol):
    """Receives diagnostics of a rule: what it decided about each bundle in a step."""

    def __call__(
        self,
        name: str,
        bundle: Bundle,
        scale: Tensor,
        correction: Tensor,
        neurons: Sequence[Tensor],
    ) -> None:
        """Receive the diagnostics of one bundle.

        Args:
            name: by which the rule's caller knows the parameter.
            bundle: the bundle.
            scale: learned factor of its step, 0-dim.
            correction: `(group, out, in, tap)`, in units of the RMS of the base direction.
            neurons: states of its output neurons, `(group, out, width)`, and of its input neurons,
                `(group, in, width)`; or nothing.
        """


class Rule(nn.Module, ABC):
    """A rule turns gradients into updates. Its weights are *theta*, the meta-parameters.

    A rule is a pure function of its arguments and theta: it changes none of its inputs, so it can
    be differentiated, unrolled and replayed. The optimizer multiplies the update by `lr`, adds
    weight decay and subtracts: `w <- w - lr * (a * update + min(1, a) * weight_decay * w)`, where
    `a` is :meth:`annealing_factor`.
    """

    lr: float = 1e-3
    """Learning rate that it was meta-trained at, which is the default of the optimizer."""

    on_diagnostics: DiagnosticsCallback | None = None
    """Called with diagnostics at each step, by rules that have any; set by
    :func:`ngopt.monitor.diagnostics.record_diagnostics`."""

    spike_limit: float = math.inf
    """By what factor a gradient may be larger than usual before the optimizer clips it.
    Infinite, which clips nothing, for hand-written formulas."""

    elementwise: tuple[str, ...] = ()
    """Names in the state of the tensors that are shaped like the parameter and computed entry by
    entry, if the rule supports shards."""

    refresh_every: int = 1
    """Number of steps between refreshes of the graph context, in the beginning (see
    `ngopt.rules.refresh_schedule`). The optimizer calls :meth:`updates` at a refresh, and
    :meth:`updates_from_cache` in between."""

    @property
    def reports_diagnostics(self) -> bool:
        """Whether diagnostics are reported; never in code under `torch.compile`."""
        return not torch.compiler.is_compiling() and self.on_diagnostics is not None

    def __getstate__(self) -> dict[str, Any]:
        # A copy starts without diagnostics and without cached plans.
        own = ("on_diagnostics", "_cache")
        return {key: value for key, value in self.__dict__.items() if key not in own}

    def cached(self, graph: NeuralGraph, name: Hashable, make: Callable[[], Cached]) -> Cached:
        """Return something that depends on this rule and a graph, made only once.

        Args:
            graph: the graph.
            name: tells several such things apart.
            make: makes it.
        """
        cache: dict[Any, tuple[NeuralGraph, Any]] = self.__dict__.setdefault("_cache", {})
        key = id(graph), name
        cache[key] = cache.pop(key) if key in cache else (graph, make())
        while len(cache) > CACHE_SIZE:
            del cache[next(iter(cache))]
        found: Cached = cache[key][1]
        return found

    def annealing_factor(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """Factor of the learning rate: 1, unless the rule anneals.

        Args:
            age: number of steps so far, this one included; a number or a 0-dim tensor.
            lowered: whether the script lowers the learning rate, so that the rule must not; may be
                a 0-dim tensor.
        """
        return 1.0

    def weight_decay(self, steps: Number) -> Number:
        """Weight decay of matrices where the script gives none: 0, unless the rule has its own.

        Args:
            steps: number of steps so far, this one included; a number or a tensor.
        """
        return 0.0

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again by `type(rule)(**rule.config)`, as plain data."""

    @abstractmethod
    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """State of the given parameters before their first step.

        Each parameter can be added at any time, so its state depends on nothing but itself.
        """

    @abstractmethod
    def updates(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Compute all updates with a refreshed graph context, one parameter after the other.

        After a rule has yielded the update of a parameter, it does not read that parameter or its
        state again. So the caller can overwrite them, and never has to hold all updates at once.

        Args:
            parameters: the model's parameters, by name; may hold more than `gradients`.
            gradients: their gradients, finite, by name, each shaped like its parameter.
            state: what :meth:`init_state` or the last call returned, for each of `gradients`.
            graph: describes the parameters.

        Yields:
            The update and new state of each parameter in `gradients`.
        """

    def updates_from_cache(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Compute all updates from the graph context that is cached in the state.

        By default this is :meth:`updates`: rules without a cache need not override it.

        Args:
            parameters: as for :meth:`updates`.
            gradients: as for :meth:`updates`.
            state: as for :meth:`updates`.
            graph: as for :meth:`updates`.
        """
        return self.updates(parameters, gradients, state, graph)

    def bundle_outputs(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Tensor:
        """Outputs of the rule's network for whole bundles, `(runs, bundles, outputs)`.

        They are differentiable with respect to theta. The buffer `perturbation` is added to them,
        so that meta-training can measure the effect of each output. All tensors have a leading
        dimension for runs; weights of the rule may have one. Most rules have no such outputs.

        Args:
            parameters: as for :meth:`updates`.
            gradients: as for :meth:`updates`.
            state: as for :meth:`updates`.
            graph: as for :meth:`updates`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no outputs for bundles")

    def supports_runs(self, gradients: Mapping[str, Tensor]) -> bool:
        """Whether :meth:`updates` and :meth:`updates_from_cache` accept several stacked runs.

        All tensors then have a leading dimension for runs; weights of the rule may have one.

        Args:
            gradients: of the runs, each with the leading dimension.
        """
        return False

    def steps_in_place(self, gradients: Mapping[str, Tensor]) -> bool:
        """Whether to call :meth:`step_in_place` for these gradients instead of :meth:`updates`."""
        return False

    def supports_shards(
        self,
        parameters: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        shards: Shards,
    ) -> bool:
        """Whether :meth:`step_in_place` supports sharded tensors. All processes must call this.

        Args:
            parameters: local shards of those that have gradients.
            state: of these parameters; local shards of the tensors named in `elementwise`.
            graph: describes the parameters.
            shards: the processes.
        """
        return False

    def step_in_place(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        options: InPlaceOptions,
        *,
        refresh: bool,
        shards: Shards | None = None,
    ) -> None:
        """Update all parameters at once, in few operations, and overwrite their state.

        Args:
            parameters: those that have gradients, by name; they change.
            gradients: as for :meth:`updates`; of all parameters, finite or not.
            state: as for :meth:`updates`; it changes.
            graph: as for :meth:`updates`.
            options: learning rates, weight decay and factors of gradients.
            refresh: whether to recompute the graph context, or to use the cached one.
            shards: processes over which the rows of all tensors are sharded, if
                :meth:`supports_shards`; the tensors given are the local shards.

        Raises:
            NotImplementedError: by rules that never ask for it.
        """
        raise NotImplementedError(f"{type(self).__name__} updates parameters one by one")

    def forward(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        *,
        refresh: bool = True,
    ) -> tuple[dict[str, Tensor], State]:
        """Compute the update of each parameter that has a gradient.

        Args:
            parameters: as for :meth:`updates`.
            gradients: as for :meth:`updates`.
            state: as for :meth:`updates`.
            graph: as for :meth:`updates`.
            refresh: whether to recompute the graph context, or to use the cached one.

        Returns:
            The update of each parameter in `gradients`, with its shape and dtype, and the new
            state of each.
        """
        update_by_name, new_state = {}, {}
        method = self.updates if refresh else self.updates_from_cache
        for name, update, after in method(parameters, gradients, state, graph):
            update_by_name[name], new_state[name] = update, after
        return update_by_name, new_state
