"""The scalable default rule: a graph network whose messages are products of matrices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.entries import Scales
from ngopt.features.moments import Moments, check_dtypes, compute_dtype, init_moments
from ngopt.features.neurons import NEURON_FEATURES
from ngopt.features.positions import POSITIONS, Positions
from ngopt.features.scale import scaled
from ngopt.features.survey import Survey
from ngopt.features.tensors import TENSOR_FEATURES, tensor_features
from ngopt.fused.switch import in_buckets
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.buckets.in_place import step_in_place
from ngopt.rules.buckets.plan import Plan
from ngopt.rules.buckets.step import CONTEXT, changes, plans_of
from ngopt.rules.given import Given, together
from ngopt.rules.layers.affine import Affine
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.layers.messages import Round
from ngopt.rules.passes.choose import passes_of
from ngopt.rules.passes.look import neuron_states, surveyed
from ngopt.rules.passes.part import Arrays, Part, arrays_of
from ngopt.rules.passes.passes import Passes, View
from ngopt.rules.passes.stored_view import count, recalled, stored
from ngopt.rules.replayed import kept
from ngopt.rules.rule import Change, Moves, Rule, State
from ngopt.rules.skeleton import Skeleton

KEPT = 2**20
"""Number of entries of a model up to which what is known of them is not computed anew each time."""


class MatrixGNN(Rule):
    """Graph network over neurons, then a small network over entries, on the safe skeleton.

    Neurons start from statistics of their rows and columns. In each round the RMS-normalised
    weight, Adam-direction and momentum matrices, times the states at one end of a bundle, are the
    messages to the other end. The network of each entry sees the entry's own features and the
    states of its two neurons, and corrects the base direction. The size of a bundle's step is
    learned from the features of the bundle, and from the states of its neurons if asked for. No
    tensor of edges x width is built. A fresh rule steps along the orthogonalized momenta of
    matrices and Adam's direction of all else, both with a slow momentum, scaled by fan-in, by small
    weights and by age.

    Parameters on different devices, or computed in different precision, exchange no messages.

    Args:
        width: size of a neuron's state.
        rounds: number of rounds of messages.
        hidden: number of hidden units of the network of each entry.
        graph_context: whether neurons have states at all; without, each entry is on its own. Theta
            has the same shape either way.
        graph_sizes: whether the learned sizes of steps depend on the mean states of the neurons at
            both ends of a bundle.
        neuron_statistics: whether neurons start from statistics of their rows and columns; without,
            all start alike, and learn of their weights and gradients from the first messages.
        context_every: number of steps after which it looks at the whole model again. Between, each
            entry sees its own features of now beside the scales, the features of bundles and the
            states of neurons of then, which are stored beside the momenta. With 1, nothing is.
        momentum_dtype: in which momenta are stored, `"bfloat16"` or `"float32"`.
        square_dtype: in which the mean of squares is stored, `"float32"` or `"bfloat16"`.
        positions: the positional features to show, of
            :data:`~ngopt.features.positions.POSITIONS`; the others are zeros.
        skeleton: changes to the defaults of :class:`~ngopt.rules.skeleton.Skeleton`, by name.
        seed: of the fresh theta; the global random state is left alone.
    """

    lr = 1e-3
    replayable = True
    spike_limit = 100.0

    def __init__(
        self,
        width: int = 16,
        rounds: int = 2,
        hidden: int = 8,
        *,
        graph_context: bool = True,
        graph_sizes: bool = False,
        neuron_statistics: bool = True,
        context_every: int = 1,
        momentum_dtype: str = "bfloat16",
        square_dtype: str = "float32",
        positions: Iterable[str] = POSITIONS,
        skeleton: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_dtypes(momentum_dtype, square_dtype)
        if context_every < 1:
            raise RuleError(
                f"the model cannot be looked at every {context_every} steps.\n"
                "  Use context_every=1 for each step, or more."
            )
        self.refresh_every = context_every
        self.width, self.hidden, self.seed = width, hidden, seed
        self.graph_context, self.graph_sizes = graph_context, graph_sizes
        self.neuron_statistics = neuron_statistics
        self.momentum_dtype, self.square_dtype = momentum_dtype, square_dtype
        self.positions = Positions(positions)
        self.skeleton = Skeleton.of(skeleton)
        generator = torch.Generator().manual_seed(seed)
        self.start = Affine(NEURON_FEATURES, width, generator)
        self.source = Affine(TENSOR_FEATURES, width, generator)
        self.rounds = nn.ModuleList(Round(width, generator) for _ in range(rounds))
        self.head = EntryHead(hidden, width, TENSOR_FEATURES, generator)
        self.scale = nn.Sequential(
            Affine(TENSOR_FEATURES, hidden, generator), nn.ReLU(), Affine(hidden, 1)
        )
        if graph_sizes:
            self.scale_out = Affine(width, hidden, bias=False)
            self.scale_in = Affine(width, hidden, bias=False)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            "width": self.width,
            "rounds": len(self.rounds),
            "hidden": self.hidden,
            "graph_context": self.graph_context,
            "graph_sizes": self.graph_sizes,
            "neuron_statistics": self.neuron_statistics,
            "context_every": self.refresh_every,
            "momentum_dtype": self.momentum_dtype,
            "square_dtype": self.square_dtype,
            "positions": list(self.positions.names),
            "skeleton": asdict(self.skeleton),
            "seed": self.seed,
        }

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """Moments of each parameter before its first step, and what it will see of the model."""
        return {
            name: init_moments(parameter, self.momentum_dtype, self.square_dtype)
            | {"evidence": parameter.new_zeros((), dtype=compute_dtype(parameter))}
            | self._blank(parameter, graph.layout(name))
            for name, parameter in parameters.items()
        }

    def _blank(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        if self.refresh_every == 1:
            return {}
        size = self._stored_size(layout.bundles)
        return {CONTEXT: parameter.new_zeros(size, dtype=compute_dtype(parameter))}

    def _stored_size(self, bundles: Sequence[Bundle]) -> int:
        """How many numbers are stored of what was last seen of some bundles."""
        return count(bundles, self._stored_width)

    @property
    def _stored_width(self) -> int:
        return self.width if self.graph_context else 0

    def stream(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Look at all parameters first, then tell what changes one by one; see :class:`.Rule`."""
        given = Given(parameters, gradients, state, graph)
        if in_buckets(gradients.values()):
            yield from changes(self, self._plans(given), *given[:3], fresh=True)
            return
        rest = dict.fromkeys(gradients)
        for names in [] if self.watched else given.lone():
            if len(names) > 1:
                yield from together(
                    lambda *run, name=names[0]: next(self.stream(*given.alone(name, *run))),
                    names,
                    [given.only(name) for name in names],
                )
                for name in names:
                    del rest[name]
        keep = self._keep(given)
        parts = {name: self._parts(name, given, keep) for name in rest}
        views = self._views(parts, given)
        for names in self._groups(rest, given):
            # Popped, so that the old state can go once its parameter is done.
            mine, seen = [parts.pop(name) for name in names], [views.pop(name) for name in names]
            if len(names) == 1:
                yield self._change(names[0], mine[0], seen[0], given)
            else:
                yield from self._followed(names, [stored(view) for view in seen], given)

    def follow(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Do without a look at the whole model; see :class:`.Rule`."""
        given = Given(parameters, gradients, state, graph)
        vectors = self._remembered(parameters, state, graph)
        if vectors is None:
            return self.stream(*given)
        if in_buckets(gradients.values()):
            return changes(self, self._plans(given), *given[:3], fresh=False)
        return chain.from_iterable(
            self._followed(names, [vectors[name] for name in names], given)
            for names in self._groups(gradients, given)
        )

    def _plans(self, given: Given) -> list[Plan]:
        looks = tuple(
            (n, given.parameters[n].device, given.parameters[n].dtype) for n in given.gradients
        )
        make = partial(plans_of, self, given.graph, given.gradients, given.parameters)
        return kept(self, given.graph, ("plans", looks), make)

    def moves_in_place(self, gradients: Mapping[str, Tensor]) -> bool:
        """In buckets, if nobody asks for derivatives; see :class:`.Rule`."""
        wrapped = map(torch._C._functorch.is_functorch_wrapped_tensor, gradients.values())
        free = not (torch.is_grad_enabled() or torch.compiler.is_compiling() or any(wrapped))
        return free and in_buckets(gradients.values())

    def move_in_place(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
        moves: Moves,
        *,
        fresh: bool,
    ) -> None:
        """Step bucket by bucket; see :class:`.Rule`."""
        given = Given(parameters, gradients, state, graph)
        fresh = fresh or self._remembered(parameters, state, graph) is None
        places = {name: place for place, name in enumerate(parameters)}
        for plan in self._plans(given):
            whole = len(plan.names) == len(parameters)
            mine = moves if whole else moves.of([places[name] for name in plan.names])
            step_in_place(self, plan, parameters, gradients, state, mine, fresh=fresh)

    def follows_apart(
        self, parameters: Mapping[str, Tensor], state: State, graph: NeuralGraph
    ) -> bool:
        """Whether enough is remembered of each parameter; see :class:`.Rule`."""
        return self._remembered(parameters, state, graph) is not None

    def _remembered(
        self, parameters: Mapping[str, Tensor], state: State, graph: NeuralGraph
    ) -> dict[str, Tensor] | None:
        """What was last seen of each parameter; None if of any there is nothing that fits."""
        vectors = {}
        for name, parameter in parameters.items():
            vector, size = state[name].get(CONTEXT), self._stored_size(graph.layout(name).bundles)
            # What was seen in another precision is seen anew.
            if vector is None or vector.dtype != compute_dtype(parameter) or len(vector) != size:
                return None
            vectors[name] = vector
        return vectors

    def _groups(self, names: Iterable[str], given: Given) -> list[list[str]]:
        """Parameters that are stepped together; each by itself if anybody is told of them."""
        return [[name] for name in names] if self.watched else given.alike(names)

    def _followed(
        self, names: Sequence[str], vectors: Sequence[Tensor], given: Given
    ) -> list[Change]:
        """What changes of parameters that are alike, as far as has been seen of each."""
        name, bundles = names[0], given.graph.layout(names[0]).bundles

        def change(vector: Tensor, *run: Any) -> Change:
            alone = given.alone(name, *run)
            views = recalled(vector, bundles, self._stored_width)
            return self._change(name, self._parts(name, alone, self._keep(alone)), views, alone)

        runs = [(v, *given.only(n)) for v, n in zip(vectors, names, strict=True)]
        return together(change, names, runs)

    def _views(self, parts: Mapping[str, Sequence[Part]], given: Given) -> dict[str, list[View]]:
        """What is seen of each bundle of each parameter."""
        alike: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        for name in parts:
            parameter = given.parameters[name]
            alike.setdefault((parameter.device, compute_dtype(parameter)), []).append(name)
        views: dict[str, list[View]] = {}
        for names in alike.values():
            seen = iter(self._look([part for name in names for part in parts[name]], given.graph))
            views.update({name: list(islice(seen, len(parts[name]))) for name in names})
        return views

    def _change(
        self, name: str, parts: Sequence[Part], views: Sequence[View], given: Given
    ) -> Change:
        """What changes of a parameter whose bundles have been seen."""
        parameter, _, before = given.only(name)
        layout, layers = given.graph.layout(name), given.graph.shortest_path
        results = [self._direct(*pair, layers) for pair in zip(parts, views, strict=True)]
        update = layout.assemble([update for update, _ in results], parameter)
        # In the order of the state to begin with, or steps would be recorded a second time.
        after = {"step": before["step"] + 1}
        for key in Moments._fields:
            after[key] = layout.assemble([moments[key] for _, moments in results], before[key])
        after["evidence"] = before["evidence"]
        if views:
            found = torch.stack([view.evidence for view in views]).mean()
            after["evidence"] = found.to(before["evidence"])
        if self.refresh_every > 1:
            after[CONTEXT] = stored(views) if views else self._blank(parameter, layout)[CONTEXT]
        return Change(name, update.to(parameter), after)

    def annealed(self, age: float | Tensor, lowered: bool = False) -> float | Tensor:
        """Steps begin larger than AdamW's, and shrink; see the skeleton."""
        return self.skeleton.annealed(age, lowered)

    def _look(self, parts: Sequence[Part], graph: NeuralGraph) -> list[View]:
        """See each bundle as a whole and among the others, all on one device and of one dtype."""
        if not parts:
            return []
        seen = surveyed(parts, partial(self._passes, keep=True))
        surveys = [survey for survey, _ in seen]
        context = tensor_features(
            [self.positions.structure(graph, part.layout, part.bundle) for part in parts],
            surveys,
            [part.step for part in parts],
        )
        neurons: list[tuple[Tensor, ...]] = [()] * len(parts)
        if self.graph_context:
            network = (torch.tanh(self.source(context)), self.start, self.rounds)
            neurons = neuron_states(parts, surveys, *network, statistics=self.neuron_statistics)
        scales = self.skeleton.scale(self.sizes(context, self._means(context, neurons)))
        return [
            View(
                Scales.of(*seen[n]),
                context[n],
                scales[n],
                self._evidence(part, surveys[n]),
                neurons[n],
            )
            for n, part in enumerate(parts)
        ]

    def sizes(self, context: Tensor, ends: tuple[Tensor, Tensor] | None) -> Tensor:
        """Raw learned sizes of the steps of bundles, `(..., bundles)`.

        Args:
            context: features of the bundles, `(..., bundles, features)`.
            ends: mean states of the neurons at both ends of each bundle, `(..., bundles, width)`,
                if there are any and they count.
        """
        first, activation, last = self.scale
        hidden = first(context)
        if ends is not None:
            hidden = hidden + self.scale_out(ends[0]) + self.scale_in(ends[1])
        sizes: Tensor = last(activation(hidden)).squeeze(-1)
        return sizes

    def _means(
        self, context: Tensor, neurons: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor] | None:
        if not (self.graph_sizes and any(neurons)):
            return None
        nothing = context.new_zeros(self.width)
        ends = [tuple(s.mean((0, 1)) for s in both) or (nothing, nothing) for both in neurons]
        out, into = zip(*ends, strict=True)
        return torch.stack(out), torch.stack(into)

    def _evidence(self, part: Part, survey: Survey) -> Tensor:
        """Share of a full step that a bundle has earned, 0-dim."""
        means = survey.whole.fast, survey.slow, survey.whole.square
        before = part.arrays.state["evidence"].to(survey.slow)
        return self.skeleton.evidence(before, *means, part.step)

    def _direct(self, part: Part, view: View, layers: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Update array of a bundle, and the arrays of its state after this step."""
        matrix = part.matrix if self.skeleton.orthogonal else None
        found = part.passes.corrected(matrix, view, self.watched)
        if found.corrections is not None and self.observer is not None:
            departure = self.skeleton.departure(found.corrections, part.step)
            self.observer(part.name, part.bundle, view.scale, departure, view.neurons)
        size = self.skeleton.rescale(view.scales.base, found.square)
        fixed = self.skeleton.step_scale(part.bundle, part.layout.kind, layers, view.scales.weight)
        share = self.skeleton.share(view.evidence, part.step)
        return scaled(found.direction, size * view.scale * share * fixed), found.after

    def _keep(self, given: Given) -> bool:
        """Whether what is computed of all entries is kept for the next pass over them."""
        entries = sum(gradient.numel() for gradient in given.gradients.values())
        return torch.is_grad_enabled() or entries <= KEPT

    def _parts(self, name: str, given: Given, keep: bool) -> list[Part]:
        """The bundles of a parameter."""
        layout, step = given.graph.layout(name), given.state[name]["step"] + 1
        return [
            Part(name, layout, bundle, matrix, arrays, self._passes(arrays, keep), step)
            for bundle, matrix, arrays in arrays_of(layout, *given.only(name))
        ]

    def _passes(self, arrays: Arrays, keep: bool) -> Passes:
        dtype, graph = compute_dtype(arrays.weight), self.graph_context
        return passes_of(*arrays, dtype, self.skeleton, self.head, graph=graph, keep=keep)
