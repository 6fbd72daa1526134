"""Base of the rules that are a network on the graph, between the features and step of a recipe."""

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError, check_whole
from ngopt.features.moments import compute_dtype
from ngopt.features.numbers import Number
from ngopt.features.positions import POSITIONS, TAP_POSITIONS, Positions
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.graph_inputs import BundleInputs, GraphInputs
from ngopt.rules.paper_recipe import PaperRecipe
from ngopt.rules.recipe import Recipe
from ngopt.rules.rule import ParameterUpdate, Rule, State
from ngopt.rules.safe_recipe import SafeRecipe

check_sizes = partial(check_whole, RuleError)
"""Raises `RuleError` unless sizes are whole numbers of at least 1; see :func:`.check_whole`."""

RECIPES: dict[str, type[SafeRecipe | PaperRecipe]] = {"safe": SafeRecipe, "paper": PaperRecipe}


class NetworkRule(Rule):
    """A rule that consists of a recipe and of a network between its features and its step.

    All networks get the same features and make the same kind of step, so that only the networks
    differ. Parameters on different devices, or computed in different precision, exchange nothing.

    Args:
        recipe: `"safe"` (scale-free features and the default rule's bounded step) or `"paper"`
            (the features and step that the literature compares networks with); or a dict of its
            `name` and options.
        positions: the positional features to show, of
            :data:`~ngopt.features.positions.POSITIONS`; the others are zeros.
        seed: of the fresh theta; the global random state is left alone.

    Raises:
        RuleError: if there is no such recipe or positional feature.
    """

    def __init__(
        self,
        *,
        recipe: str | Mapping[str, Any] = "safe",
        positions: Iterable[str] = POSITIONS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.positions = Positions(positions)
        self.generator = torch.Generator().manual_seed(seed)
        """Draws all of the fresh theta, the recipe's first, then the network's."""
        self.recipe = _build(recipe, self.generator)

    @property
    def shared_config(self) -> dict[str, Any]:
        """The arguments that all such rules have, as plain data."""
        return {
            "recipe": self.recipe.config,
            "positions": list(self.positions.names),
            "seed": self.seed,
        }

    @property
    def entry_inputs(self) -> int:
        """Number of features in :meth:`~ngopt.rules.graph_inputs.GraphInputs.entry_features`."""
        return self.recipe.channels + TAP_POSITIONS + self.recipe.context

    @abstractmethod
    def network(self, graph_inputs: GraphInputs) -> tuple[list[Tensor], State]:
        """Run the network.

        Args:
            graph_inputs: features of all entries, by bundle, and of the nodes at both ends.

        Returns:
            For each bundle its outputs, `(group, out, in, tap, recipe.outputs)`, and for each
            parameter the tensors of its memory that are new.
        """

    def annealing_factor(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """The factor of the recipe."""
        return self.recipe.annealing_factor(age, lowered)

    def begin_memory(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Initial memory of the network about a parameter; none by default."""
        return {}

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """State of the given parameters before their first step."""
        return {
            name: self.recipe.begin(p) | self.begin_memory(p, graph.layout(name))
            for name, p in parameters.items()
        }

    def updates(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Run the network on all parameters, then yield their updates; see :class:`.Rule`."""
        new_state: State = {}
        by_device: dict[tuple[torch.device, torch.dtype], list[BundleInputs]] = {}
        for name, gradient in gradients.items():
            layout, parameter = graph.layout(name), parameters[name]
            kept, signals = self.recipe.advance(parameter, gradient, state[name])
            new_state[name] = {**state[name], **kept}
            views = zip(*(layout.views(signal) for signal in signals), strict=True)
            by_device.setdefault((parameter.device, compute_dtype(parameter)), []).extend(
                BundleInputs(layout, bundle, arrays, kept["step"], name, graph.shortest_path)
                for bundle, arrays in zip(layout.bundles, views, strict=True)
            )
        arrays: dict[str, list[Tensor]] = {name: [] for name in gradients}
        for bundles in filter(None, by_device.values()):
            for inputs, update in zip(
                bundles, self._updates(bundles, graph, new_state), strict=True
            ):
                arrays[inputs.name].append(update)
        for name in gradients:
            update = graph.layout(name).assemble(arrays.pop(name), parameters[name])
            yield ParameterUpdate(name, update.to(parameters[name]), new_state.pop(name))

    def _updates(
        self, bundles: list[BundleInputs], graph: NeuralGraph, new_state: State
    ) -> list[Tensor]:
        """Update array of each bundle; writes what the network remembers into `new_state`."""
        structures = [self.positions.structure(graph, p.layout, p.bundle) for p in bundles]
        context = self.recipe.contexts(bundles, structures)
        features = [self.recipe.features(inputs) for inputs in bundles]
        memory = {inputs.name: new_state[inputs.name] for inputs in bundles}
        graph_inputs = GraphInputs.of(graph, bundles, features, context, self.positions, memory)
        outputs, remembered = self.network(graph_inputs)
        for name, tensors in remembered.items():
            new_state[name] = {**new_state[name], **tensors}
        if self.reports_diagnostics:
            self._report(bundles, outputs, context)
        return [
            self.recipe.update(inputs, output, numbers)
            for inputs, output, numbers in zip(bundles, outputs, context, strict=True)
        ]

    def _report(self, bundles: list[BundleInputs], outputs: list[Tensor], context: Tensor) -> None:
        for inputs, output, numbers in zip(bundles, outputs, context, strict=True):
            diagnostics = self.recipe.diagnostics(inputs, output, numbers)
            if self.on_diagnostics is not None and diagnostics is not None:
                self.on_diagnostics(inputs.name, inputs.bundle, *diagnostics, ())


def _build(recipe: str | Mapping[str, Any], generator: torch.Generator) -> Recipe:
    options = {"name": recipe} if isinstance(recipe, str) else dict(recipe)
    name = options.pop("name", None)
    if name not in RECIPES:
        raise RuleError(
            f"there is no recipe {name!r}.\n  Use recipe= one of: {', '.join(RECIPES)}; or a dict "
            "of its name and options."
        )
    known = list(inspect.signature(RECIPES[name]).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RuleError(
            f"the recipe {name!r} has no {', '.join(map(repr, unknown))}.\n"
            f"  Use any of: {', '.join(known)}."
        )
    return RECIPES[name](generator, **options)
