"""What a rule is given at a step, and which parameters in it can be stepped together."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor

from ngopt.features.moments import Moments
from ngopt.features.neurons import ends
from ngopt.features.tensors import structure
from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.alike import each, groups
from ngopt.rules.passes.part import NUMBERS
from ngopt.rules.rule import Change, State


class Given(NamedTuple):
    """What :meth:`~ngopt.rules.Rule.stream` takes."""

    parameters: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    state: State
    graph: NeuralGraph

    def only(self, name: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is given of one parameter; of its state, the moments and the number of steps."""
        state = self.state[name]
        kept = {key: state[key] for key in (*NUMBERS, *Moments._fields)}
        return self.parameters[name], self.gradients[name], kept

    def alone(
        self, name: str, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor]
    ) -> "Given":
        """The same graph, and nothing of any other parameter than this one."""
        return Given({name: parameter}, {name: gradient}, {name: state}, self.graph)

    def alike(self, names: Iterable[str]) -> list[list[str]]:
        """Groups of parameters that differ in nothing but their numbers and their place."""
        return groups((name, self._looks(name), self._build(name)) for name in names)

    def lone(self) -> list[list[str]]:
        """Groups of parameters that share their neurons with no other, and their place is alike."""
        sides = {name: _neurons(self.graph.layout(name)) for name in self.gradients}
        shared = Counter(chain.from_iterable(sides.values()))
        lone = [name for name, own in sides.items() if all(shared[side] == 1 for side in own)]
        return groups(
            (name, self._looks(name), (self._build(name), self._place(name))) for name in lone
        )

    def _looks(self, name: str) -> Sequence[Tensor]:
        parameter, gradient, state = self.only(name)
        return parameter, gradient, *(state[key] for key in Moments._fields)

    def _build(self, name: str) -> Hashable:
        layout = self.graph.layout(name)
        return layout.kind, *((b.steps, b.sizes, b.roles, b.axes) for b in layout.bundles)

    def _place(self, name: str) -> Hashable:
        layout = self.graph.layout(name)
        return tuple(tuple(structure(self.graph, layout, b)) for b in layout.bundles)


def together(function: Any, names: Sequence[str], runs: Sequence[tuple[Any, ...]]) -> list[Change]:
    """Compute what changes of parameters that are alike.

    Args:
        function: returns what changes of any of them.
        names: of the parameters.
        runs: arguments of the function for each.
    """
    found = each(lambda *run: function(*run)[1:], runs)
    return [Change(name, *change) for name, change in zip(names, found, strict=True)]


def _neurons(layout: Layout) -> set[tuple[str, ...]]:
    return {side for bundle in layout.bundles for side in ends(bundle) if side}
