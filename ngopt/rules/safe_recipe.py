"""Scale-free features and the safe skeleton: a fresh rule is a sane optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ngopt.features.entries import Edges, Entries, Scales, entry_features
from ngopt.features.moments import (
    Moments,
    check_dtypes,
    compute_dtype,
    init_moments,
    update_moments,
)
from ngopt.features.numbers import Number
from ngopt.features.survey import Survey
from ngopt.features.tensors import TENSOR_FEATURES, tensor_features
from ngopt.graph.matrix import matrices
from ngopt.nn.affine import Affine
from ngopt.rules.recipe import Recipe
from ngopt.rules.scene import Part
from ngopt.rules.skeleton import Skeleton


class SafeRecipe(Recipe):
    """The features and the step of the default rule, for any network.

    The network corrects the direction; the size of a bundle's step is learned from features of the
    whole bundle, without the network. See :class:`~ngopt.rules.skeleton.Skeleton`.

    Unlike those of the default rule, steps are full from the first one: `evidence_least` and the
    other options of evidence count for nothing here.

    Args:
        generator: draws the weights of the scale.
        hidden: number of hidden units of the scale.
        momentum_dtype: in which momenta are stored, `"bfloat16"` or `"float32"`.
        square_dtype: in which the mean of squares is stored, `"float32"` or `"bfloat16"`.
        skeleton: changes to the defaults of the skeleton, by name.
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
        skeleton: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        check_dtypes(momentum_dtype, square_dtype)
        self.hidden = hidden
        self.momentum_dtype, self.square_dtype = momentum_dtype, square_dtype
        self.skeleton = Skeleton.of(skeleton)
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
            "skeleton": asdict(self.skeleton),
        }

    def annealed(self, age: Number, lowered: bool | Tensor) -> Number:
        """Steps begin larger than AdamW's, and shrink; see the skeleton."""
        return self.skeleton.annealed(age, lowered)

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Moments of a parameter before its first step."""
        return init_moments(parameter, self.momentum_dtype, self.square_dtype)

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Update the moments; the signals are weight, gradient and moments."""
        new, moments = update_moments(dict(state), gradient)
        dtype = compute_dtype(parameter)
        return new, tuple(t.to(dtype) for t in (parameter, gradient, *moments))

    def features(self, part: Part) -> Tensor:
        """Scale-free features of each entry; see :class:`~ngopt.features.entries.Entries`."""
        edges = _edges(part)
        base = self._base(part, edges)
        scales = Scales.of(Survey.of(edges), base.square().mean())
        return torch.stack(entry_features(edges, base, scales), -1)

    def contexts(self, parts: Sequence[Part], structures: Sequence[Sequence[float]]) -> Tensor:
        """Statistics, time and structure; see :mod:`ngopt.features.tensors`."""
        surveys = [Survey.of(_edges(part)) for part in parts]
        return tensor_features(structures, surveys, [part.step for part in parts])

    def update(self, part: Part, outputs: Tensor, context: Tensor) -> Tensor:
        """Correct the base direction by the outputs, within bounds."""
        edges = _edges(part)
        base = self._base(part, edges)
        correction = self.skeleton.gate(outputs.squeeze(-1), edges.moments)
        direction = self.skeleton.direction(base, correction, part.step)
        scale = self.skeleton.scale(self.scale(context))
        fixed = self.skeleton.step_scale(
            part.bundle, part.layout.kind, part.layers, edges.weight.square().mean()
        )
        return direction * (scale * fixed)

    def _base(self, part: Part, edges: Edges) -> Tensor:
        """Direction that is to be corrected."""
        base = self.skeleton.base(edges.adam, edges.slow, edges.relative, part.step)
        found = matrices(part.layout)
        if not (found and self.skeleton.orthogonal):
            return base
        matrix = found[part.layout.bundles.index(part.bundle)]
        fast, slow, _ = edges.moments
        momentum = self.skeleton.base(fast, slow, edges.gradient, part.step)
        direction = self.skeleton.orthogonalized(momentum, matrix)
        direction = self.skeleton.gate(direction, edges.moments)
        return direction * self.skeleton.rescale(base.square().mean(), direction.square().mean())

    def insides(self, part: Part, outputs: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Factor of the step, and by how much the direction is corrected."""
        correction = self.skeleton.gate(outputs.squeeze(-1), _edges(part).moments)
        scale = self.skeleton.scale(self.scale(context)).squeeze(0)
        return scale, self.skeleton.departure(correction, part.step)


def _edges(part: Part) -> Edges:
    weight, gradient, *moments = part.signals
    return Edges.of(weight, gradient, Moments(*moments))
