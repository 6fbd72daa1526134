"""Base of the rules that are a network on the graph, between the features and step of a recipe."""

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.moments import compute_dtype
from ngopt.features.numbers import Number
from ngopt.features.positions import POSITIONS, TAP_POSITIONS, Positions
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.nn.sizes import check_whole
from ngopt.rules.paper_recipe import PaperRecipe
from ngopt.rules.recipe import Recipe
from ngopt.rules.rule import Change, Rule, State
from ngopt.rules.safe_recipe import SafeRecipe
from ngopt.rules.scene import Part, Scene

check_sizes = partial(check_whole, RuleError)
"""Raises `RuleError` unless sizes are whole numbers of at least 1; see :func:`.check_whole`."""

RECIPES: dict[str, type[SafeRecipe | PaperRecipe]] = {"safe": SafeRecipe, "paper": PaperRecipe}


class NetworkRule(Rule):
    """A rule that consists of a recipe and of a network between its features and its step.

    All networks are given the same features and make the same kind of step, so what they do apart
    is what the networks do. Parameters on different devices, or computed in different precision,
    do not see each other.

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
        """Number of features that :meth:`~ngopt.rules.scene.Scene.inputs` gives of an entry."""
        return self.recipe.channels + TAP_POSITIONS + self.recipe.context

    @abstractmethod
    def network(self, scene: Scene) -> tuple[list[Tensor], State]:
        """Run the network.

        Args:
            scene: what it sees.

        Returns:
            For each part its outputs, `(group, out, in, tap, recipe.outputs)`, and for each
            parameter the tensors of its memory that are new.
        """

    def annealed(self, age: Number, lowered: bool | Tensor = False) -> Number:
        """The factor of the recipe."""
        return self.recipe.annealed(age, lowered)

    def begin_memory(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """What the network remembers of a parameter, before its first step: nothing, by default."""
        return {}

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """State of the given parameters before their first step."""
        return {
            name: self.recipe.begin(p) | self.begin_memory(p, graph.layout(name))
            for name, p in parameters.items()
        }

    def stream(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[Change]:
        """Run the network on all parameters, then tell of one by one; see :class:`.Rule`."""
        new_state: State = {}
        alike: dict[tuple[torch.device, torch.dtype], list[Part]] = {}
        for name, gradient in gradients.items():
            layout, parameter = graph.layout(name), parameters[name]
            kept, signals = self.recipe.advance(parameter, gradient, state[name])
            new_state[name] = {**state[name], **kept}
            views = zip(*(layout.views(signal) for signal in signals), strict=True)
            alike.setdefault((parameter.device, compute_dtype(parameter)), []).extend(
                Part(layout, bundle, arrays, kept["step"], name, graph.shortest_path)
                for bundle, arrays in zip(layout.bundles, views, strict=True)
            )
        arrays: dict[str, list[Tensor]] = {name: [] for name in gradients}
        for parts in filter(None, alike.values()):
            for part, update in zip(parts, self._updates(parts, graph, new_state), strict=True):
                arrays[part.name].append(update)
        for name in gradients:
            update = graph.layout(name).assemble(arrays.pop(name), parameters[name])
            yield Change(name, update.to(parameters[name]), new_state.pop(name))

    def _updates(self, parts: list[Part], graph: NeuralGraph, new_state: State) -> list[Tensor]:
        """Update array of each part; takes what the network remembers into the state."""
        structures = [self.positions.structure(graph, p.layout, p.bundle) for p in parts]
        context = self.recipe.contexts(parts, structures)
        features = [self.recipe.features(part) for part in parts]
        memory = {part.name: new_state[part.name] for part in parts}
        scene = Scene.of(graph, parts, features, context, self.positions, memory)
        outputs, remembered = self.network(scene)
        for name, tensors in remembered.items():
            new_state[name] = {**new_state[name], **tensors}
        if self.watched:
            self._tell(parts, outputs, context)
        return [
            self.recipe.update(part, output, numbers)
            for part, output, numbers in zip(parts, outputs, context, strict=True)
        ]

    def _tell(self, parts: list[Part], outputs: list[Tensor], context: Tensor) -> None:
        for part, output, numbers in zip(parts, outputs, context, strict=True):
            insides = self.recipe.insides(part, output, numbers)
            if self.observer is not None and insides is not None:
                self.observer(part.name, part.bundle, *insides, ())


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
