"""The scalable default rule: a graph network whose messages are products of matrices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.backends.dispatch import can_use_cpu_loops
from ngopt.errors import RuleError
from ngopt.features.bundle_features import TENSOR_FEATURES
from ngopt.features.bundle_statistics import MATRICES
from ngopt.features.moments import Moments, check_dtypes, compute_dtype, init_moments
from ngopt.features.neurons import NEURON_FEATURES
from ngopt.features.numbers import Number
from ngopt.features.positions import POSITIONS, Positions
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.nn.affine import Affine
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.buckets.bucket_step import CONTEXT, BucketStep, make_plans
from ngopt.rules.buckets.compiled_step import all_updates, context_builder, sharded_loops_for
from ngopt.rules.buckets.in_place import step_buckets_in_place
from ngopt.rules.buckets.packing import packed_size
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.whitening import (
    covariances_fit,
    reset_misfits,
    whitening_sizes,
)
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.rule import InPlaceOptions, ParameterUpdate, Rule, State
from ngopt.rules.shards import Shards

OUTPUTS = 2
"""Learned outputs for each bundle: the size of its step, and the decay of its weights. With
`learned_slow` there is a third, the weight of its slow momentum."""


class MatrixGNN(Rule):
    """Graph network over neurons, then a small network over entries, on the bounded base update.

    Neurons start from statistics of their rows and columns. In each round the RMS-normalised
    weight, Adam-direction and momentum matrices, times the states at one end of a bundle, are the
    messages to the other end. The network of each entry sees the entry's own features and the
    states of its two neurons, and corrects the base direction. The size of a bundle's step is
    learned from the features of the bundle, and from the states of its neurons if asked for. No
    tensor of edges x width is built. A fresh rule steps along the orthogonalized momenta of
    matrices and Adam's direction of all else, both with a slow momentum, scaled by fan-in, by small
    weights and by age. With `whitening_limit` in `base_update`, momenta of matrices are whitened
    instead.

    Parameters on different devices, or computed in different precision, exchange no messages.

    Args:
        width: size of a neuron's state.
        rounds: number of rounds of messages.
        hidden: number of hidden units of the network of each entry.
        graph_context: whether neurons have states; without, each entry sees only its own features
            and those of its bundle. Theta has the same shape either way.
        graph_sizes: whether the learned sizes of steps depend on the mean states of the neurons at
            both ends of a bundle.
        linear_sizes: whether they also depend on the features of the bundle directly, beside the
            hidden units.
        learned_slow: whether the weight of the slow momentum in matrices is learned as well.
        neuron_statistics: whether neurons start from statistics of their rows and columns. Without,
            all start from the same state and differ only by the messages they receive.
        context_every: number of steps between refreshes of the graph context: learned sizes,
            features of bundles and states of neurons. It grows up to eightfold during training.
            Between refreshes the context is cached in the state; features of entries are always
            computed anew. 1 disables caching.
        momentum_dtype: in which momenta are stored, `"bfloat16"` or `"float32"`.
        square_dtype: in which the mean of squares is stored, `"float32"` or `"bfloat16"`.
        positions: the positional features to show, of
            :data:`~ngopt.features.positions.POSITIONS`; the others are zeros.
        base_update: options of :class:`~ngopt.rules.base_update.BaseUpdate` that differ from its
            defaults, by name.
        seed: of the fresh theta; the global random state is left alone.
    """

    lr = 1e-3
    spike_limit = 100.0

    elementwise = Moments._fields

    def __init__(
        self,
        width: int = 16,
        rounds: int = 2,
        hidden: int = 8,
        *,
        graph_context: bool = True,
        graph_sizes: bool = False,
        linear_sizes: bool = False,
        learned_slow: bool = False,
        neuron_statistics: bool = True,
        context_every: int = 1,
        momentum_dtype: str = "bfloat16",
        square_dtype: str = "float32",
        positions: Iterable[str] = POSITIONS,
        base_update: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_dtypes(momentum_dtype, square_dtype)
        if context_every < 1:
            raise RuleError(
                f"the graph context cannot be recomputed every {context_every} steps.\n"
                "  Use context_every=1 for every step, or more."
            )
        self.refresh_every = context_every
        self.width, self.hidden, self.seed = width, hidden, seed
        self.graph_context, self.neuron_statistics = graph_context, neuron_statistics
        self.graph_sizes, self.linear_sizes = graph_sizes, linear_sizes
        self.learned_slow = learned_slow
        self.momentum_dtype, self.square_dtype = momentum_dtype, square_dtype
        self.positions = Positions(positions)
        self.base_update = BaseUpdate.of(base_update)
        generator = torch.Generator().manual_seed(seed)
        self.start = Affine(NEURON_FEATURES, width, generator)
        self.source = Affine(TENSOR_FEATURES, width, generator)
        self.rounds = nn.ModuleList(MessageRound(width, generator) for _ in range(rounds))
        self.head = EntryHead(hidden, width, TENSOR_FEATURES, generator)
        outputs = OUTPUTS + learned_slow
        self.scale = nn.Sequential(
            Affine(TENSOR_FEATURES, hidden, generator), nn.SiLU(), Affine(hidden, outputs)
        )
        if graph_sizes:
            self.scale_out = Affine(width, hidden, bias=False)
            self.scale_in = Affine(width, hidden, bias=False)
        if linear_sizes:
            self.scale_linear = Affine(TENSOR_FEATURES, outputs, bias=False)
        self.perturbation: Tensor
        self.register_buffer("perturbation", torch.zeros(()), persistent=False)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            "width": self.width,
            "rounds": len(self.rounds),
            "hidden": self.hidden,
            "graph_context": self.graph_context,
            "graph_sizes": self.graph_sizes,
            "linear_sizes": self.linear_sizes,
            "learned_slow": self.learned_slow,
            "neuron_statistics": self.neuron_statistics,
            "context_every": self.refresh_every,
            "momentum_dtype": self.momentum_dtype,
            "square_dtype": self.square_dtype,
            "positions": list(self.positions.names),
            "base_update": asdict(self.base_update),
            "seed": self.seed,
        }

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """Zero moments of each parameter, and an empty cached context."""
        return {
            name: init_moments(parameter, self.momentum_dtype, self.square_dtype)
            | {"evidence": parameter.new_zeros((), dtype=compute_dtype(parameter))}
            | self._empty_covariances(parameter, graph.layout(name))
            | self._empty_context(parameter, graph.layout(name))
            for name, parameter in parameters.items()
        }

    def _empty_covariances(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        if not self.base_update.whitening_limit:
            return {}
        return {
            key: parameter.new_zeros(size, dtype=compute_dtype(parameter))
            for key, size in whitening_sizes(layout, self.base_update).items()
        }

    def _empty_context(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        if self.refresh_every == 1:
            return {}
        size = packed_size(layout.bundles, self.width if self.graph_context else 0)
        return {CONTEXT: parameter.new_zeros(size, dtype=compute_dtype(parameter))}

    def updates(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Refresh the graph context, then yield updates bucket by bucket; see :class:`.Rule`."""
        plans = self._plans(parameters, gradients, graph)
        return all_updates(self, plans, parameters, gradients, state, refresh=True)

    def updates_from_cache(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Yield updates from the cached graph context, if there is one; see :class:`.Rule`."""
        plans = self._plans(parameters, gradients, graph)
        refresh = not self._has_context(plans, parameters, state)
        return all_updates(self, plans, parameters, gradients, state, refresh=refresh)

    def _plans(
        self, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor], graph: NeuralGraph
    ) -> list[Plan]:
        tensors = tuple((n, parameters[n].device, parameters[n].dtype) for n in gradients)
        make = partial(make_plans, self, graph, gradients, parameters)
        return self.cached(graph, ("plans", tensors), make)

    def supports_runs(self, gradients: Mapping[str, Tensor]) -> bool:
        """True where loops are compiled; see :class:`.Rule`."""
        given = [*gradients.values()]
        return can_use_cpu_loops(given) and all(
            gradient.dtype == torch.float32 for gradient in given
        )

    def steps_in_place(self, gradients: Mapping[str, Tensor]) -> bool:
        """True unless derivatives are needed; see :class:`.Rule`."""
        wrapped = map(torch._C._functorch.is_functorch_wrapped_tensor, gradients.values())
        return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or any(wrapped))

    def supports_shards(
        self,
        parameters: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        shards: Shards,
    ) -> bool:
        """True where loops are compiled, nothing is whitened and no diagnostics are reported."""
        if self.reports_diagnostics or not self.steps_in_place(parameters):
            return False
        (plan,) = self._plans(parameters, parameters, graph)
        if any(bucket.whitened for bucket in plan.buckets):
            return False  # covariances need whole gradients
        return sharded_loops_for(self, plan, shards, parameters, state) is not None

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
        """Step bucket by bucket; see :class:`.Rule`."""
        plans = self._plans(parameters, gradients, graph)
        refresh = refresh or not self._has_context(plans, parameters, state)
        for plan in plans:
            reset_misfits(state, plan.covariances)
        places = {name: place for place, name in enumerate(parameters)}
        for plan in plans:
            whole = len(plan.names) == len(parameters)
            mine = options if whole else options.select([places[name] for name in plan.names])
            step_buckets_in_place(
                self, plan, parameters, gradients, state, mine, refresh=refresh, shards=shards
            )

    def _has_context(
        self, plans: Iterable[Plan], parameters: Mapping[str, Tensor], state: State
    ) -> bool:
        """Whether the state of each parameter holds a cached context that fits."""
        for plan in plans:
            if not covariances_fit(state, plan.covariances):
                return False
            for name, size in zip(plan.names, plan.packed_sizes, strict=True):
                vector = state[name].get(CONTEXT)
                # A context in another precision is computed anew.
                if (
                    vector is None
                    or vector.dtype != compute_dtype(parameters[name])
                    or vector.shape[-1] != size
                ):
                    return False
        return True

    def annealing_factor(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """Annealing factor of the base update; see :class:`.BaseUpdate`."""
        return self.base_update.annealing_factor(age, lowered)

    def weight_decay(self, steps: Number) -> Number:
        """Weight decay of the base update; see :class:`.BaseUpdate`."""
        return self.base_update.weight_decay(steps)

    def bundle_outputs(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Tensor:
        """Raw outputs of the network for bundles; see :class:`.Rule`."""
        (plan,) = self._plans(parameters, gradients, graph)
        return context_builder(self, BucketStep(self, plan, parameters, gradients, state)).outputs

    def outputs(self, context: Tensor, ends: tuple[Tensor, Tensor] | None) -> Tensor:
        """Raw sizes of steps, decays of weights and, if learned, weights of the slow momentum.

        They are `(..., bundles, outputs)`. To them is added `perturbation`, a buffer that is 0 but
        in meta-training.

        Args:
            context: features of the bundles, `(..., bundles, features)`.
            ends: mean states of the neurons at both ends of each bundle, `(..., bundles, width)`,
                if there are any and they count.
        """
        first, activation, last = self.scale
        hidden = first(context)
        if ends is not None:
            hidden = hidden + self.scale_out(ends[0]) + self.scale_in(ends[1])
        outputs: Tensor = last(activation(hidden))
        if self.linear_sizes:
            outputs = outputs + self.scale_linear(context)
        return outputs + self.perturbation.to(outputs)


class MessageRound(nn.Module):
    """One round of messages: each neuron mixes its state with the mean message of its bundles.

    The message of a bundle to its output neurons is `to_out` of the products of its matrices with
    the states of its input neurons, `(..., MATRICES * width)`; `to_in` is the same for messages to
    input neurons.

    Args:
        width: size of a neuron's state.
        generator: draws the weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.keep = Affine(width, width, generator)
        self.to_out = Affine(MATRICES * width, width, generator, bias=False)
        self.to_in = Affine(MATRICES * width, width, generator, bias=False)

    def forward(self, states: Tensor, messages: Tensor) -> Tensor:
        """Return new states, each between -1 and 1.

        Args:
            states: of all neurons, `(..., neurons, width)`.
            messages: mean message of the bundles of each neuron, of the same shape.
        """
        return torch.tanh(self.keep(states) + messages)
