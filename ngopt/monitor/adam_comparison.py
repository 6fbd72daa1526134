"""Comparison with Adam: the steps that it would do on the same gradients."""

from collections.abc import Mapping

from torch import Tensor

from ngopt.optim.joined_graph import EMPTY, complete
from ngopt.optim.magnitudes import all_finite
from ngopt.optim.update import Options, if_finite, init_state, rule_updates
from ngopt.rules.adam import Adam
from ngopt.rules.rule import State


class AdamComparison:
    """Computes Adam's steps from the gradients of a run that another optimizer trains.

    It keeps two tensors of the size of each parameter, in at least single precision, and waits for
    no device. Steps with a gradient that is not finite leave the moments as they were.
    """

    def __init__(self) -> None:
        self._rule, self._graph = Adam(), EMPTY
        self._state: State = {}

    def step(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        options: Mapping[str, Options],
    ) -> dict[str, Tensor]:
        """Take the gradients of one step in.

        Args:
            params: the parameters, by name; only their shapes, dtypes and devices count.
            grads: their gradients, each shaped like its parameter.
            options: for each of `grads`; their weight decay does not count.

        Returns:
            What Adam, without weight decay, would add to each parameter, in at least single
            precision.
        """
        self._graph = complete(self._graph, grads)
        fresh = {name: params[name] for name in grads if name not in self._state}
        self._state |= init_state(fresh, self._graph, self._rule)
        finite = all_finite(grads)
        due = {name: self._state[name] for name in grads}
        steps = {}
        for name, direction, after in rule_updates(
            params, grads, due, self._graph, self._rule, options
        ):
            self._state[name] = if_finite(finite, after, self._state[name])
            steps[name] = -options[name].lr * direction
        return steps
