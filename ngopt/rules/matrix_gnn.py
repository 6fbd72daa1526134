"""The scalable default rule: a graph network whose messages are products of matrices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.entries import Scales
from ngopt.features.moments import Moments, check_dtypes, compute_dtype, init_moments
from ngopt.features.neurons import NEURON_FEATURES, ends, neuron_features
from ngopt.features.positions import POSITIONS, Positions
from ngopt.features.survey import Survey
from ngopt.features.tensors import TENSOR_FEATURES, tensor_features
from ngopt.graph.bundle import Bundle
from ngopt.graph.layout import Layout
from ngopt.graph.matrix import Matrix, matrices
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.layers.affine import Affine
from ngopt.rules.layers.entry_head import EntryHead
from ngopt.rules.layers.messages import Link, Round
from ngopt.rules.passes.choose import passes_of
from ngopt.rules.passes.passes import Passes, View
from ngopt.rules.passes.stored_view import count, recalled, stored
from ngopt.rules.rule import Change, Rule, State
from ngopt.rules.skeleton import Skeleton

KEPT = 2**20
"""Number of entries of a model up to which what is known of them is not computed anew each time."""

MOMENTS = tuple(Moments._fields)

CONTEXT = "context"
"""Name in the state of a parameter of what was last seen of its bundles and of the model."""


class _Part(NamedTuple):
    name: str
    layout: Layout
    bundle: Bundle
    passes: Passes
    step: Tensor
    matrix: Matrix | None
    layers: int


class MatrixGNN(Rule):
    """Graph network over neurons, then a small network over entries, on the safe skeleton.

    Neurons start from statistics of their rows and columns. In each round the RMS-normalised
    weight, Adam-direction and momentum matrices, times the states at one end of a bundle, are the
    messages to the other end. The network of each entry sees the entry's own features and the
    states of its two neurons, and corrects the base direction. The graph touches the direction
    only: the size of a bundle's step is learned from the features of the bundle. No tensor of
    edges x width is built. A fresh rule steps along the orthogonalized momenta of matrices and
    Adam's direction of all else, both with a slow momentum, scaled by fan-in, by small weights and
    by age.

    Parameters on different devices, or computed in different precision, exchange no messages.

    Args:
        width: size of a neuron's state.
        rounds: number of rounds of messages.
        hidden: number of hidden units of the network of each entry.
        graph_context: whether neurons have states at all; without, each entry is on its own. Theta
            has the same shape either way.
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

    lr = 6e-3
    replayable = True
    spike_limit = 100.0

    def __init__(
        self,
        width: int = 16,
        rounds: int = 2,
        hidden: int = 8,
        *,
        graph_context: bool = True,
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
        self.graph_context, self.neuron_statistics = graph_context, neuron_statistics
        self.momentum_dtype = momentum_dtype
        self.square_dtype = square_dtype
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

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again, as plain data."""
        return {
            "width": self.width,
            "rounds": len(self.rounds),
            "hidden": self.hidden,
            "graph_context": self.graph_context,
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
            | self._blank(parameter, graph.layout(name))
            for name, parameter in parameters.items()
        }

    def _blank(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        if self.refresh_every == 1:
            return {}
        size = count(layout.bundles, self._stored_width)
        return {CONTEXT: parameter.new_zeros(size, dtype=compute_dtype(parameter))}

    @property
    def _stored_width(self) -> int:
        """Size of the states of neurons that are stored."""
        return self.width if self.graph_context else 0

    def stream(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Look at all parameters first, then tell what changes one by one; see :class:`.Rule`."""
        parts = self._all_parts(parameters, gradients, state, graph)
        views = self._views(parts, parameters, graph)
        yield from self._changes(parts, views, parameters, state, graph)

    def follow(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Do without a look at the whole model; see :class:`.Rule`."""
        views: dict[str, list[View]] = {}
        for name in gradients:
            vector = state[name].get(CONTEXT)
            bundles = graph.layout(name).bundles
            found = None
            # What was seen in another precision is seen anew.
            if vector is not None and vector.dtype == compute_dtype(parameters[name]):
                found = recalled(vector, bundles, self._stored_width)
            if found is None:
                return self.stream(parameters, gradients, state, graph)
            views[name] = found
        parts = self._all_parts(parameters, gradients, state, graph)
        return self._changes(parts, views, parameters, state, graph)

    def _views(
        self,
        parts: Mapping[str, Sequence[_Part]],
        parameters: Mapping[str, Tensor],
        graph: NeuralGraph,
    ) -> dict[str, list[View]]:
        """What is seen of each bundle of each parameter."""
        alike: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        for name in parts:
            parameter = parameters[name]
            alike.setdefault((parameter.device, compute_dtype(parameter)), []).append(name)
        views: dict[str, list[View]] = {}
        for names in alike.values():
            seen = iter(self._look([part for name in names for part in parts[name]], graph))
            views.update({name: list(islice(seen, len(parts[name]))) for name in names})
        return views

    def _changes(
        self,
        parts: dict[str, list[_Part]],
        views: dict[str, list[View]],
        parameters: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        for name in list(parts):
            # Popped, so that the old state can go once its parameter is done.
            pairs = zip(parts.pop(name), views.pop(name), strict=True)
            layout, parameter = graph.layout(name), parameters[name]
            yield Change(name, *self._change(list(pairs), layout, parameter, state[name]))

    def _change(
        self,
        pairs: Sequence[tuple[_Part, View]],
        layout: Layout,
        parameter: Tensor,
        state: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update of a parameter, and its state after this step."""
        results = [self._direct(part, view) for part, view in pairs]
        update = layout.assemble([update for update, _ in results], parameter)
        after = {"step": state["step"] + 1}
        for key in MOMENTS:
            after[key] = layout.assemble([moments[key] for _, moments in results], state[key])
        if self.refresh_every > 1:
            after[CONTEXT] = stored([view for _, view in pairs]) if pairs else state[CONTEXT]
        return update.to(parameter), after

    def _look(self, parts: Sequence[_Part], graph: NeuralGraph) -> list[View]:
        """See each bundle as a whole and among the others, all on one device and of one dtype."""
        if not parts:
            return []
        seen = [part.passes.survey() for part in parts]
        surveys = [survey for survey, _ in seen]
        context = tensor_features(
            [self.positions.structure(graph, part.layout, part.bundle) for part in parts],
            surveys,
            [part.step for part in parts],
        )
        scales = self.skeleton.scale(self.scale(context).squeeze(1))
        states = self._neurons(parts, surveys, context)
        return [
            View(Scales.of(*seen[number]), context[number], scales[number], states[number])
            for number in range(len(parts))
        ]

    def _neurons(
        self, parts: Sequence[_Part], surveys: Sequence[Survey], context: Tensor
    ) -> list[tuple[Tensor, ...]]:
        """States of the output and input neurons of each bundle, if there are any at all."""
        if not self.graph_context:
            return [()] * len(parts)
        sides = [ends(part.bundle) for part in parts]
        features = neuron_features(zip(sides, surveys, strict=True))
        if not self.neuron_statistics:
            features = {neurons: torch.zeros_like(x) for neurons, x in features.items()}
        states = {neurons: torch.tanh(self.start(x)) for neurons, x in features.items()}
        sources = torch.tanh(self.source(context))
        links = [
            Link(side, part.passes, survey, source)
            for side, part, survey, source in zip(sides, parts, surveys, sources, strict=True)
        ]
        for mix in self.rounds:
            states = mix(links, states)
        return [(link.out_state(states), link.in_state(states)) for link in links]

    def _direct(self, part: _Part, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Update array of a bundle, and the arrays of its state after this step."""
        matrix = part.matrix if self.skeleton.orthogonal else None
        found = part.passes.corrected(matrix, view, self.watched)
        if found.corrections is not None and self.observer is not None:
            departure = self.skeleton.departure(found.corrections, part.step)
            self.observer(part.name, part.bundle, view.scale, departure, view.neurons)
        size = self.skeleton.rescale(view.scales.base, found.square)
        fixed = self.skeleton.step_scale(
            part.bundle, part.layout.kind, part.layers, part.step, view.scales.weight
        )
        factor = size * view.scale * fixed
        # In place where no derivative needs the direction any more: a large one is not held twice.
        in_place = not torch.is_grad_enabled()
        update = found.direction.mul_(factor) if in_place else found.direction * factor
        return update, found.after

    def _all_parts(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> dict[str, list[_Part]]:
        kept = torch.is_grad_enabled() or sum(g.numel() for g in gradients.values()) <= KEPT
        return {
            name: self._parts(name, graph, parameters[name], gradient, state[name], kept)
            for name, gradient in gradients.items()
        }

    def _parts(
        self,
        name: str,
        graph: NeuralGraph,
        parameter: Tensor,
        gradient: Tensor,
        state: Mapping[str, Tensor],
        keep: bool,
    ) -> list[_Part]:
        tensors = (parameter, gradient, *(state[key] for key in MOMENTS))
        layout, layers = graph.layout(name), graph.shortest_path
        dtype, step = compute_dtype(parameter), state["step"] + 1
        views = zip(*(layout.views(tensor) for tensor in tensors), strict=True)
        found: Sequence[Matrix | None] = matrices(layout) or [None] * len(layout.bundles)
        parts = []
        for bundle, matrix, (w, g, *moments) in zip(layout.bundles, found, views, strict=True):
            before = {"step": state["step"], **dict(zip(MOMENTS, moments, strict=True))}
            passes = passes_of(
                w,
                g,
                before,
                dtype,
                self.skeleton,
                self.head,
                graph=self.graph_context,
                keep=keep,
            )
            parts.append(_Part(name, layout, bundle, passes, step, matrix, layers))
        return parts
