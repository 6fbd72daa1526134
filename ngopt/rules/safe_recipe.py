"""Scale-free features and the bounded base update: a fresh rule is a sane optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ngopt.errors import RuleError
from ngopt.features.bundle_features import TENSOR_FEATURES, tensor_features
from ngopt.features.bundle_statistics import BundleStatistics
from ngopt.features.entry_features import Edges, Entries, Scales, entry_features
from ngopt.features.moments import (
    Moments,
    check_dtypes,
    compute_dtype,
    init_moments,
    update_moments,
)
from ngopt.features.numbers import Number
from ngopt.graph.matrix import matrices
from ngopt.nn.affine import Affine
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.graph_inputs import BundleInputs
from ngopt.rules.recipe import Recipe


class SafeRecipe(Recipe):
    """The features and the step of the default rule, for any network.

    The network corrects the direction; the size of a bundle's step is learned from features of the
    whole bundle, without the network. See :class:`~ngopt.rules.base_update.BaseUpdate`.

    Unlike those of the default rule, steps are full from the first one: `evidence_least` and the
    other options of evidence count for nothing here.

    Args:
        generator: draws the weights of the scale.
        hidden: number of hidden units of the scale.
        momentum_dtype: in which momenta are stored, `"bfloat16"` or `"float32"`.
        square_dtype: in which the mean of squares is stored, `"float32"` or `"bfloat16"`.
        base_update: changes to the defaults of the base update, by name; all but those of
            whitening.
    """

    channels: ClassVar[int] = len(Entries._fields)
    context: ClassVar[int] = TENSOR_FEATURES
    outputs: ClassVar[int] = 1
    zero_outputs: ClassVar[bool] = True

    def __init__(
        self,
        generator: torch.Generator,
        *,
        hidden: int = 8,
        momentum_dtype: str = "bfloat16",
        square_dtype: str = "float32",
        base_update: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        check_dtypes(momentum_dtype, square_dtype)
        self.hidden = hidden
        self.momentum_dtype, self.square_dtype = momentum_dtype, square_dtype
        self.base_update = BaseUpdate.of(base_update)
        if self.base_update.whitening_limit:
            raise RuleError(
                f"whitening_limit={self.base_update.whitening_limit} asks for whitened momenta, "
                "which only MatrixGNN has.\n"
                "  Use MatrixGNN, or leave whitening_limit at 0."
            )
        self.scale = nn.Sequential(
            Affine(TENSOR_FEATURES, hidden, generator), nn.SiLU(), Affine(hidden, 1)
        )

    @property
    def config(self) -> dict[str, Any]:
        """Name and options, as plain data."""
        return {
            "name": "safe",
            "hidden": self.hidden,
            "momentum_dtype": self.momentum_dtype,
            "square_dtype": self.square_dtype,
            "base_update": asdict(self.base_update),
        }

    def annealing_factor(self, age: Number, lowered: bool | Tensor) -> Number:
        """Steps begin larger than AdamW's, and shrink; see :class:`.BaseUpdate`."""
        return self.base_update.annealing_factor(age, lowered)

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Moments of a parameter before its first step."""
        return init_moments(parameter, self.momentum_dtype, self.square_dtype)

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Update the moments; the signals are weight, gradient and moments."""
        new, moments = update_moments(dict(state), gradient, self.base_update.window)
        dtype = compute_dtype(parameter)
        return new, tuple(t.to(dtype) for t in (parameter, gradient, *moments))

    def features(self, inputs: BundleInputs) -> Tensor:
        """Scale-free features of entries; see :class:`~ngopt.features.entry_features.Entries`."""
        edges = _edges(inputs)
        base = self._base(inputs, edges)
        scales = Scales.of(BundleStatistics.of(edges), base.square().mean())
        return torch.stack(entry_features(edges, base, scales), -1)

    def contexts(
        self, bundles: Sequence[BundleInputs], structures: Sequence[Sequence[float]]
    ) -> Tensor:
        """Statistics, time and structure; see :mod:`ngopt.features.bundle_features`."""
        bundle_statistics = [BundleStatistics.of(_edges(inputs)) for inputs in bundles]
        return tensor_features(structures, bundle_statistics, [inputs.step for inputs in bundles])

    def update(self, inputs: BundleInputs, outputs: Tensor, context: Tensor) -> Tensor:
        """Correct the base direction by the outputs, within bounds."""
        edges = _edges(inputs)
        base = self._base(inputs, edges)
        correction = self.base_update.gate(outputs.squeeze(-1), edges.moments)
        direction = self.base_update.direction(base, correction, inputs.step)
        scale = self.base_update.scale(self.scale(context))
        fixed = self.base_update.step_scale(
            inputs.bundle, inputs.layout.kind, inputs.layers, edges.weight.square().mean()
        )
        return direction * (scale * fixed)

    def _base(self, inputs: BundleInputs, edges: Edges) -> Tensor:
        """Direction that is to be corrected."""
        base = self.base_update.base(edges.adam, edges.slow, edges.relative, inputs.step)
        found = matrices(inputs.layout)
        if not (found and self.base_update.orthogonal):
            return base
        matrix = found[inputs.layout.bundles.index(inputs.bundle)]
        fast, slow, _ = edges.moments
        momentum = self.base_update.base(fast, slow, edges.gradient, inputs.step)
        direction = self.base_update.orthogonalized(momentum, matrix)
        direction = self.base_update.gate(direction, edges.moments)
        return direction * self.base_update.rescale(base.square().mean(), direction.square().mean())

    def diagnostics(
        self, inputs: BundleInputs, outputs: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Factor of the step, and by how much the direction is corrected."""
        correction = self.base_update.gate(outputs.squeeze(-1), _edges(inputs).moments)
        scale = self.base_update.scale(self.scale(context)).squeeze(0)
        return scale, self.base_update.departure(correction, inputs.step)


def _edges(inputs: BundleInputs) -> Edges:
    weight, gradient, *moments = inputs.signals
    return Edges.of(weight, gradient, Moments(*moments))
