"""Muon, written by hand as a rule: momentum of matrices, orthogonalized."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Kind, Layout
from ngopt.graph.matrix import Matrix, matrices
from ngopt.rules.adam import Adam
from ngopt.rules.layers.newton_schulz import COEFFICIENTS, Coefficients, orthogonalize
from ngopt.rules.tensor_rule import TensorRule

Adjust: TypeAlias = Literal["original", "match_rms_adamw"]
Precision: TypeAlias = Literal["full", "bfloat16"]
HIDDEN: tuple[Kind, ...] = ("linear", "convolution", "recurrent")
"""Kinds of layers whose matrices map neurons to neurons."""


class Muon(TensorRule):
    r"""The orthogonalized momentum of each matrix; Adam's direction for all else.

    Matrices are the parameters of at least two dimensions other than embeddings and norms. Their
    rows are the outputs, their columns all the rest, as `(shape[0], rest)` in torch's layers; a
    parameter of several bundles (a fused QKV projection) or groups (a grouped convolution) is
    several matrices, for only then do permuted neurons permute the update. A parameter whose kind
    changes because its graph is found during training begins anew.

    Args:
        momentum: decay of the running mean of a matrix's gradient.
        nesterov: whether to look ahead by the momentum.
        steps: Newton-Schulz iterations.
        coefficients: of the Newton-Schulz polynomial.
        adjust: what a matrix's update is multiplied by: `"original"` by
            :math:`\sqrt{\max(1, rows / columns)}`, `"match_rms_adamw"` by
            :math:`0.2 \sqrt{\max(rows, columns)}`.
        precision: what matrices are orthogonalized in. `"full"` is float64, whatever the
            parameter's dtype, because the iteration amplifies rounding errors about 500 times;
            `"bfloat16"` is much faster, and equals `torch.optim.Muon`.
        betas: Adam's, for all else.
        eps: Adam's.
        adam_scale: what Adam's direction is multiplied by.
        hidden_only: whether Adam's direction is also that of matrices that belong to no linear,
            convolutional or recurrent layer, such as embeddings of positions, and of those that
            make the model's outputs. These are found by their `depth` in the graph, which has to be
            traced.

    Raises:
        RuleError: if an option makes no sense.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et
    al., "Muon is Scalable for LLM Training", 2025, for `"match_rms_adamw"`.
    """

    def __init__(
        self,
        momentum: float = 0.95,
        nesterov: bool = True,
        steps: int = 5,
        coefficients: Coefficients = COEFFICIENTS,
        adjust: Adjust = "original",
        precision: Precision = "full",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        adam_scale: float = 1.0,
        hidden_only: bool = False,
    ) -> None:
        super().__init__()
        if not (0 <= momentum < 1 and steps >= 1 and len(coefficients) == 3 and adam_scale >= 0):
            raise RuleError(
                f"Muon got momentum={momentum}, steps={steps}, coefficients={tuple(coefficients)} "
                f"and adam_scale={adam_scale}.\n"
                "  Give a momentum from 0 to below 1, at least one step, three coefficients, and "
                "an adam_scale that is at least 0."
            )
        if adjust not in get_args(Adjust) or precision not in get_args(Precision):
            raise RuleError(
                f"Muon got adjust={adjust!r} and precision={precision!r}.\n"
                f"  Use adjust= one of: {', '.join(get_args(Adjust))}; and precision= one of: "
                f"{', '.join(get_args(Precision))}."
            )
        a, b, c = coefficients
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.steps = int(steps)
        self.coefficients = (float(a), float(b), float(c))
        self.adjust: Adjust = adjust
        self.precision: Precision = precision
        self.adam = Adam(betas, eps)
        self.adam_scale = float(adam_scale)
        self.hidden_only = bool(hidden_only)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        names = ("momentum", "nesterov", "steps", "coefficients", "adjust", "precision")
        own = {name: getattr(self, name) for name in names}
        adam = {"betas": self.adam.betas, "eps": self.adam.eps, "adam_scale": self.adam_scale}
        return {**own, **adam, "hidden_only": self.hidden_only}

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Adam's state; a matrix has no second moment: it is empty."""
        state = self.adam.begin(parameter, layout)
        if self._matrices(layout):
            state["exp_avg_sq"] = state["exp_avg_sq"].new_zeros(0)
        return state

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the momentum and orthogonalize it, or step as Adam."""
        parts = self._matrices(layout)
        shape = (0,) if parts else parameter.shape
        if state["exp_avg_sq"].shape != shape:
            state = self.begin(parameter, layout)
        if not parts:
            update, new = self.adam.advance(parameter, gradient, state, layout)
            return self.adam_scale * update, new
        dtype = compute_dtype(parameter)
        gradient = gradient.to(dtype)
        mean = state["exp_avg"].to(dtype).lerp(gradient, 1 - self.momentum)
        ahead = gradient.lerp(mean, self.momentum) if self.nesterov else mean
        views = zip(parts, layout.views(ahead), strict=True)
        arrays = [part.array(self._direction(part.view(array))) for part, array in views]
        update = layout.assemble(arrays, ahead)
        new = {"step": state["step"] + 1, "exp_avg": mean, "exp_avg_sq": state["exp_avg_sq"]}
        return update.to(parameter.dtype), new

    def _matrices(self, layout: Layout) -> list[Matrix]:
        """What is orthogonalized."""
        if self.hidden_only and (layout.kind not in HIDDEN or layout.depth == 1):
            return []
        return matrices(layout)

    def _direction(self, momentum: Tensor) -> Tensor:
        """Orthogonalize and scale matrices `(group, rows, columns)`."""
        rows, columns = momentum.shape[1:]
        if self.adjust == "original":
            factor = math.sqrt(max(1.0, rows / columns))
        else:
            factor = 0.2 * math.sqrt(max(rows, columns))
        dtype = torch.float64 if self.precision == "full" else torch.bfloat16
        result = orthogonalize(momentum.to(dtype), self.steps, self.coefficients)
        return factor * result.to(momentum.dtype)
