"""SmallFC: the learned optimizer small_fc_lopt, a small network of each entry."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.adafactor import (
    Entry,
    Rates,
    accumulate,
    entries,
    fitted,
    state_shapes,
    unit_stack,
    zeros,
)
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout
from ngopt.nn.feed_forward import Perceptron
from ngopt.rules.tensor_rule import TensorRule

HORIZONS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
FEATURES = 28 + len(HORIZONS)
DECAYS = (0.9, 0.99, 0.999, 0.999, 0.9, 0.99, 0.999)
"""At first: of three momenta, of the mean square, and of three row and column means."""


class SmallFC(TensorRule):
    r"""The learned optimizer small_fc_lopt: features of each entry and of time, into a perceptron.

    Twenty-eight features of each entry, each divided by its root mean square over the bundle
    (the tensor, for most), and eleven of time, :math:`\tanh(t / T - 1)`, become a direction `d`
    and a magnitude `a`; the update is `step_mult * d * exp(0.001 * a)`. The decays of its running
    means are part of theta, :math:`\beta = 1 - (1 - \beta_0) e^{10 \theta}`, held at 0 or more,
    so that a mean of squares cannot be negative.

    Args:
        hidden: number of units of each hidden layer; (32, 32) as in PyLO, (4, 4) as first
            published.
        step_mult: what the output is multiplied by; 0.01 as in PyLO, 0.001 as first published.
        seed: of the draw of theta.

    Raises:
        RuleError: if an option makes no sense.

    Source: Metz et al., "Practical tradeoffs between memory, compute, and performance in learned
    optimizers", CoLLAs 2022.
    """

    def __init__(
        self, hidden: Sequence[int] = (32, 32), step_mult: float = 0.01, seed: int = 0
    ) -> None:
        super().__init__()
        if not (all(size >= 1 for size in hidden) and step_mult > 0):
            raise RuleError(
                f"SmallFC got hidden={tuple(hidden)} and step_mult={step_mult}.\n"
                "  Give at least one unit to each hidden layer, and a step_mult above 0."
            )
        self.hidden = tuple(hidden)
        self.step_mult = float(step_mult)
        self.seed = seed
        self.net = Perceptron([FEATURES, *hidden, 2], torch.Generator().manual_seed(seed))
        self.decays = nn.Parameter(torch.zeros(len(DECAYS), dtype=torch.float32))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        return {"hidden": self.hidden, "step_mult": self.step_mult, "seed": self.seed}

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Zero running means, and a 0-dim count of steps."""
        return zeros(parameter, state_shapes(layout))

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the running means and run the network."""
        gradient = gradient.to(compute_dtype(parameter))
        state = fitted(state, state_shapes(layout))
        new = accumulate(state, gradient, layout, self._rates(gradient))
        times = [torch.tanh(state["step"].to(gradient) / horizon - 1) for horizon in HORIZONS]
        parts = entries(gradient, parameter, new, layout, 1e-6)
        update = layout.assemble([self._step(entry, times) for entry in parts], gradient)
        return update.to(parameter.dtype), new

    def _rates(self, like: Tensor) -> Rates:
        """How fast the running means forget, in the dtype of a tensor."""
        logs = [
            math.log(1 - decay) + 10 * theta
            for decay, theta in zip(DECAYS, self.decays.to(like).unbind(), strict=True)
        ]
        rates = [log.clamp(max=0).exp() for log in logs]
        return Rates(rates[:3], rates[3], rates[4:])

    def _step(self, entry: Entry, times: Sequence[Tensor]) -> Tensor:
        """Turn the features of a bundle into its update `(group, out, in, tap)`."""
        own = unit_stack([*entry.own, *entry.factored], (0, 1, 2, 3), 1e-5)
        time = torch.stack(list(times)).expand(*own.shape[:-1], -1)
        direction, magnitude = self.net(torch.cat([own, time], -1)).unbind(-1)
        step: Tensor = self.step_mult * direction * torch.exp(1e-3 * magnitude)
        return step
