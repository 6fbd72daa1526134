"""What every rule is: gradients and a graph in, an update of each parameter and a new state out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn

from ngopt.graph.neural_graph import NeuralGraph

State: TypeAlias = dict[str, dict[str, Tensor]]
"""By name of the parameter: the tensors that a rule remembers about it, by name."""


class Rule(nn.Module, ABC):
    """A rule turns gradients into updates. Its weights are *theta*, the meta-parameters.

    A rule is a pure function of its arguments and theta: it changes none of its inputs, so it can
    be differentiated, unrolled and replayed. The optimizer multiplies the update by `lr`, adds
    weight decay and subtracts: `w <- w - lr * (update + weight_decay * w)`.
    """

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again: `type(rule)(**rule.config)`, as plain data."""

    @abstractmethod
    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """State of the given parameters before their first step.

        Each parameter can be added at any time, so its state depends on nothing but itself.
        """

    @abstractmethod
    def forward(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> tuple[dict[str, Tensor], State]:
        """Compute the update of each parameter that has a gradient.

        Args:
            parameters: the model's parameters, by name; may hold more than `gradients`.
            gradients: their gradients, finite, by name, each shaped like its parameter.
            state: what :meth:`init_state` or the last call returned, for each of `gradients`.
            graph: describes the parameters.

        Returns:
            The update of each parameter in `gradients`, with its shape and dtype, and the new
            state of each.
        """
