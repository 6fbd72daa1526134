"""Gradient descent with momentum, written by hand as a rule."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout
from ngopt.rules.tensor_rule import TensorRule


class SGDM(TensorRule):
    r"""Stochastic gradient descent with momentum: :math:`b \leftarrow \mu b + (1 - \tau) g`.

    The buffer starts as the plain gradient, as in `torch.optim.SGD`, which this rule equals. The
    update is the buffer, or :math:`g + \mu b` with Nesterov's momentum. It makes no use of the
    graph and has no weights.

    Args:
        momentum: decay of the buffer; without momentum the update is the gradient.
        dampening: how much less than the whole gradient enters the buffer.
        nesterov: whether to look ahead by the momentum.
        l2: coupled weight decay: `l2` times the parameter is added to its gradient.

    Raises:
        RuleError: if an option makes no sense.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        dampening: float = 0.0,
        nesterov: bool = False,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        if not (0 <= momentum < 1 and 0 <= dampening <= 1 and l2 >= 0):
            raise RuleError(
                f"SGDM got momentum={momentum}, dampening={dampening} and l2={l2}.\n"
                "  Give a momentum from 0 to below 1, a dampening from 0 to 1, and an l2 that is "
                "at least 0."
            )
        if nesterov and not (momentum and not dampening):
            raise RuleError(
                f"SGDM got nesterov=True with momentum={momentum} and dampening={dampening}, but "
                "Nesterov's momentum looks ahead by a momentum that is not dampened.\n"
                "  Give a momentum above 0 and dampening=0, or nesterov=False."
            )
        self.momentum = float(momentum)
        self.dampening = float(dampening)
        self.nesterov = bool(nesterov)
        self.l2 = float(l2)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        names = ("momentum", "dampening", "nesterov", "l2")
        return {name: getattr(self, name) for name in names}

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """A 0-dim count of steps and, with momentum, a buffer shaped like the parameter."""
        state = {"step": torch.zeros((), dtype=torch.float32, device=parameter.device)}
        if self.momentum:
            state["momentum"] = torch.zeros_like(
                parameter, dtype=compute_dtype(parameter), requires_grad=False
            )
        return state

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the gradient into the buffer."""
        dtype = compute_dtype(parameter)
        update = gradient = gradient.to(dtype)
        if self.l2:
            update = gradient = gradient.add(parameter.to(dtype), alpha=self.l2)
        new = {"step": state["step"] + 1}
        if self.momentum:
            part = torch.where(state["step"] == 0, 1.0, 1 - self.dampening).to(dtype)
            buffer = self.momentum * state["momentum"].to(dtype) + part * gradient
            update = gradient.add(buffer, alpha=self.momentum) if self.nesterov else buffer
            new["momentum"] = buffer
        return update.to(parameter.dtype), new
