"""Adam, written by hand as a rule, so that it runs wherever learned rules run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import OptionError
from ngopt.graph.neural_graph import NeuralGraph
from ngopt.rules.rule import Rule, State


class Adam(Rule):
    r"""Adam without a learned part: :math:`u = \hat m / (\sqrt{\hat v} + \epsilon)`.

    With the optimizer's decoupled weight decay it is `torch.optim.AdamW`, without it
    `torch.optim.Adam`. It makes no use of the graph and has no weights.

    Args:
        betas: decay of the running mean of the gradient, and of its square.
        eps: added to the root of the second moment.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    def __init__(self, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__()
        if not all(0 <= beta < 1 for beta in betas) or not eps >= 0:
            raise OptionError(
                f"Adam got betas={tuple(betas)} and eps={eps}.\n"
                "  Give betas that are at least 0 and below 1, and an eps that is at least 0."
            )
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        return {"betas": self.betas, "eps": self.eps}

    def init_state(self, parameters: Mapping[str, Tensor], graph: NeuralGraph) -> State:
        """Zero moments, shaped like the parameter, and a 0-dim count of steps."""
        return {
            name: {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for name, parameter in parameters.items()
        }

    def forward(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        state: State,
        graph: NeuralGraph,
    ) -> tuple[dict[str, Tensor], State]:
        """Update the moments and return their ratio."""
        updates, new_state = {}, {}
        for name, gradient in gradients.items():
            updates[name], new_state[name] = self._one(gradient, state[name])
        return updates, new_state

    def _one(
        self, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        step = state["step"] + 1
        mean = state["exp_avg"].to(gradient.dtype).lerp(gradient, 1 - self.betas[0])
        square = state["exp_avg_sq"].to(gradient.dtype) * self.betas[1]
        square = square.addcmul(gradient, gradient, value=1 - self.betas[1])
        # The root of an exact 0 has no finite derivative, which meta-training would meet.
        root = (square + torch.finfo(square.dtype).tiny).sqrt()
        first, second = (_correction(beta, step.to(gradient.dtype)) for beta in self.betas)
        update = mean / first / (root / second.sqrt() + self.eps)
        return update, {"step": step, "exp_avg": mean, "exp_avg_sq": square}


def _correction(beta: float, step: Tensor) -> Tensor:
    """Return `1 - beta ** step`, exact to the last bits even where it is close to 0."""
    return -torch.expm1(step * math.log(beta)) if beta else torch.ones_like(step)
