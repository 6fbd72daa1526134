"""Base of the rules that treat each parameter on its own."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor

from ngopt.graph.layout import Layout
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.rule import ParameterUpdate, Rule, State


class TensorRule(Rule):
    """A rule that treats each parameter by itself; subclasses define its state and its step."""

    @abstractmethod
    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """State of one parameter before its first step.

        Args:
            parameter: gives shape, dtype, device and memory format.
            layout: which of its axes are outputs, inputs and taps.
        """

    @abstractmethod
    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the update of one parameter, and its new state, which has the same keys.

        Args:
            parameter: the parameter.
            gradient: of its shape.
            state: what :meth:`begin` or the last call returned; left as it is.
            layout: which of its axes are outputs, inputs and taps.
        """

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """State of the given parameters before their first step."""
        return {name: self.begin(p, graph.layout(name)) for name, p in parameters.items()}

    def updates(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> Iterator[ParameterUpdate]:
        """Compute what changes, one parameter after the other; see :class:`.Rule`."""
        for name, gradient in gradients.items():
            layout = graph.layout(name)
            yield ParameterUpdate(
                name, *self.advance(parameters[name], gradient, state[name], layout)
            )
