"""What every rule is: gradients and a graph in, an update of each parameter and a new state out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ngopt.features.numbers import Number
from ngopt.graph.bundle import Bundle
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.shards import Shards

State: TypeAlias = dict[str, dict[str, Tensor]]
"""By name of the parameter: the tensors that a rule remembers about it, by name."""


class Change(NamedTuple):
    """What a rule says of one parameter.

    Args:
        name: of the parameter.
        update: of its shape and dtype.
        state: its new state.
    """

    name: str
    update: Tensor
    state: dict[str, Tensor]


class Moves(NamedTuple):
    """How parameters are moved: each becomes `kept * parameter - rate * update`.

    Args:
        rates: learning rate of each parameter, `(parameters,)`.
        kept: share of each parameter that weight decay leaves; all of it by default.
        factors: of the gradients, `(parameters,)`; 1 by default.
        finite: whether all gradients are finite, 0-dim; if not, nothing changes.
        captured: where to put what a CUDA graph of the step needs whenever it is replayed, so that
            it stays; None if steps are never captured.
    """

    rates: Tensor
    kept: Tensor | None
    factors: Tensor | None
    finite: Tensor
    captured: list[object] | None = None

    def of(self, places: Sequence[int]) -> "Moves":
        """Those of some parameters."""

        def own(numbers: Tensor) -> Tensor:
            return torch.stack([numbers[place] for place in places])  # without a copy of places

        kept, factors = (n if n is None else own(n) for n in (self.kept, self.factors))
        return Moves(own(self.rates), kept, factors, self.finite, self.captured)


class Observer(Protocol):
    """Is told what a rule decides inside."""

    def __call__(
        self,
        name: str,
        bundle: Bundle,
        scale: Tensor,
        correction: Tensor,
        neurons: Sequence[Tensor],
    ) -> None:
        """Hear of one bundle.

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
    `a` is :meth:`annealed`.
    """

    lr: float = 1e-3
    """Learning rate that it was meta-trained at, which is the default of the optimizer."""

    observer: Observer | None = None
    """Set by :func:`ngopt.monitor.watch.watch`. Rules without such insides tell it nothing."""

    spike_limit: float = math.inf
    """By what factor a gradient may be larger than usual. The optimizer scales a larger one down,
    before the rule remembers it. Infinite for formulas that are to be followed to the letter."""

    elementwise: tuple[str, ...] = ()
    """Names in the state of what has the shape of the parameter and is computed entry by entry, if
    the rule takes shards."""

    refresh_every: int = 1
    """Number of steps after which it has to look at the whole model again, with :meth:`stream`, in
    the beginning (see `ngopt.optim.refreshing`); between, :meth:`follow` does."""

    @property
    def watched(self) -> bool:
        """Whether anybody is told what this rule decides inside; nobody in compiled code."""
        return not torch.compiler.is_compiling() and self.observer is not None

    def __getstate__(self) -> dict[str, Any]:
        # A copy is a rule of its own, which nobody watches and which has kept nothing.
        own = ("observer", "kept")
        return {key: value for key, value in self.__dict__.items() if key not in own}

    def annealed(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """Factor by which the rule wants its learning rate multiplied: 1, unless it anneals.

        Args:
            age: number of steps so far, this one included; a number or a 0-dim tensor.
            lowered: whether a script lowers the learning rate, so that the rule must not; the same.
        """
        return 1.0

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
    def stream(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Compute what changes, one parameter after the other.

        A rule looks at nothing of a parameter any more once it has yielded its change, so that the
        caller can overwrite the parameter and its state, and never hold all changes at once.

        Args:
            parameters: the model's parameters, by name; may hold more than `gradients`.
            gradients: their gradients, finite, by name, each shaped like its parameter.
            state: what :meth:`init_state` or the last call returned, for each of `gradients`.
            graph: describes the parameters.

        Yields:
            The change of each parameter in `gradients`.
        """

    def follow(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Compute what changes from what the rule last saw of the model, which is in the state.

        Rules that look at the whole model, or at nothing but single parameters, in each step do the
        same as in :meth:`stream`.

        Args:
            parameters: as for :meth:`stream`.
            gradients: as for :meth:`stream`.
            state: as for :meth:`stream`.
            graph: as for :meth:`stream`.
        """
        return self.stream(parameters, gradients, state, graph)

    def bundle_outputs(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Tensor:
        """What the rule's network puts out for whole bundles at a look, `(runs, bundles, outputs)`.

        It is differentiable with respect to theta, and the buffer `perturbation` is added to it, so
        that meta-training can find out what each output does. All tensors have a dimension for runs
        in front, as weights of the rule may have. Most rules have no such outputs.

        Args:
            parameters: as for :meth:`stream`.
            gradients: as for :meth:`stream`.
            state: as for :meth:`stream`.
            graph: as for :meth:`stream`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no outputs for bundles")

    def takes_runs(self, gradients: Mapping[str, Tensor]) -> bool:
        """Whether :meth:`stream` and :meth:`follow` take several runs at once.

        All tensors then have a dimension for them in front, as weights of the rule may have.

        Args:
            gradients: of the runs.
        """
        return False

    def moves_in_place(self, gradients: Mapping[str, Tensor]) -> bool:
        """Whether :meth:`move_in_place` is the way to step with these gradients."""
        return False

    def takes_shards(
        self,
        parameters: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        shards: Shards,
    ) -> bool:
        """Whether :meth:`move_in_place` steps where processes share the tensors. All must ask.

        Args:
            parameters: what this process holds of those that have gradients.
            state: the same of their state, of what has the shape of its parameter; else whole.
            graph: describes the parameters.
            shards: the processes.
        """
        return False

    def move_in_place(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        moves: Moves,
        *,
        fresh: bool,
        shards: Shards | None = None,
    ) -> None:
        """Move all parameters at once, in few operations, and overwrite their state.

        Args:
            parameters: those that have gradients, by name; they change.
            gradients: as for :meth:`stream`; those of all parameters, whether or not finite.
            state: as for :meth:`stream`; it changes.
            graph: as for :meth:`stream`.
            moves: how far they are moved.
            fresh: whether to look at the whole model, or to :meth:`follow`.
            shards: processes of which each holds some rows of all tensors, if :meth:`takes_shards`;
                the tensors given are these rows.

        Raises:
            NotImplementedError: by rules that never ask for it.
        """
        raise NotImplementedError(f"{type(self).__name__} moves parameters one by one")

    def forward(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        *,
        fresh: bool = True,
    ) -> tuple[dict[str, Tensor], State]:
        """Compute the update of each parameter that has a gradient.

        Args:
            parameters: as for :meth:`stream`.
            gradients: as for :meth:`stream`.
            state: as for :meth:`stream`.
            graph: as for :meth:`stream`.
            fresh: whether to look at the whole model, or to :meth:`follow`.

        Returns:
            The update of each parameter in `gradients`, with its shape and dtype, and the new
            state of each.
        """
        updates, new_state = {}, {}
        told = self.stream if fresh else self.follow
        for name, update, after in told(parameters, gradients, state, graph):
            updates[name], new_state[name] = update, after
        return updates, new_state
