"""Adam, written by hand as a rule, so that it runs wherever learned rules run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout
from ngopt.rules.tensor_rule import TensorRule


class Adam(TensorRule):
    r"""Adam without a learned part: :math:`u = \hat m / (\sqrt{\hat v} + \epsilon)`.

    With the optimizer's decoupled weight decay it is `torch.optim.AdamW`, with `l2` instead
    `torch.optim.Adam`. It makes no use of the graph and has no weights.

    Args:
        betas: decay of the running mean of the gradient, and of its square.
        eps: added to the root of the second moment.
        l2: coupled weight decay: `l2` times the parameter is added to its gradient.
        nesterov: whether to look ahead by the first beta: NAdam as AlgoPerf's baseline NAdamW has
            it, which is not `torch.optim.NAdam`, for the beta is the same at all steps.

    Raises:
        RuleError: if an option makes no sense.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Choi et al., "On
    Empirical Comparisons of Optimizers for Deep Learning", 2019, table 1, for Nesterov's momentum.
    """

    def __init__(
        self,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__()
        valid = all(0 <= beta < 1 for beta in betas) and eps >= 0 and l2 >= 0
        if len(betas) != 2 or not valid:
            raise RuleError(
                f"Adam got betas={tuple(betas)}, eps={eps} and l2={l2}.\n"
                "  Give two betas that are at least 0 and below 1, and an eps and an l2 that are "
                "at least 0."
            )
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)
        self.l2 = float(l2)
        self.nesterov = bool(nesterov)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        # Results of plain Adam were kept under these three names before there was a fourth.
        ahead = {"nesterov": True} if self.nesterov else {}
        return {"betas": self.betas, "eps": self.eps, "l2": self.l2, **ahead}

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Zero moments, shaped like the parameter, and a 0-dim count of steps."""
        zeros = torch.zeros_like(parameter, dtype=compute_dtype(parameter), requires_grad=False)
        return {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": zeros,
            "exp_avg_sq": zeros.clone(),
        }

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the moments and return their ratio."""
        dtype = compute_dtype(parameter)
        gradient = gradient.to(dtype)
        if self.l2:
            gradient = gradient.add(parameter.to(dtype), alpha=self.l2)
        step = state["step"] + 1
        mean = state["exp_avg"].to(dtype).lerp(gradient, 1 - self.betas[0])
        square = state["exp_avg_sq"].to(dtype) * self.betas[1]
        square = square.addcmul(gradient, gradient, value=1 - self.betas[1])
        # The root of an exact 0 has no finite derivative, which meta-training would meet.
        root = (square + torch.finfo(dtype).tiny).sqrt()
        first, second = (_correction(beta, step.to(dtype)) for beta in self.betas)
        ahead = mean.lerp(gradient, 1 - self.betas[0]) if self.nesterov else mean
        update = ahead / first / (root / second.sqrt() + self.eps)
        return update.to(parameter.dtype), {"step": step, "exp_avg": mean, "exp_avg_sq": square}


def _correction(beta: float, step: Tensor) -> Tensor:
    """Return `1 - beta ** step`, exact to the last bits even where it is close to 0."""
    return -torch.expm1(step * math.log(beta)) if beta else torch.ones_like(step)
