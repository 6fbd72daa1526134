"""Celo2: a tiny network of each entry, whose output is orthogonalized."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ngopt.errors import RuleError
from ngopt.features.adafactor import (
    MOMENTA,
    Entry,
    Rates,
    Shapes,
    accumulate,
    entries,
    fitted,
    state_shapes,
    unit_stack,
    zeros,
)
from ngopt.features.factored import averaged
from ngopt.features.moments import compute_dtype
from ngopt.graph.layout import Layout
from ngopt.nn.feed_forward import Perceptron
from ngopt.rules.adam import Adam
from ngopt.rules.layers.newton_schulz import orthogonalize
from ngopt.rules.tensor_rule import TensorRule

FEATURES = 30
BETAS = (0.9, 0.95)
"""Adam's, which share the fastest momentum and the mean square of the features."""

RATES = Rates((0.1, 0.01, 0.001), 1 - BETAS[1], (0.1, 0.01, 0.001))
EPS = 1e-8
LARGEST = 1000.0
NEURONS = (1, 2)
"""Dimensions `out` and `in` of an array: each tap and each group is a matrix of its own."""


class Celo2(TensorRule):
    r"""The learned optimizer Celo2, with 347 weights; biases and embeddings get Adam's direction.

    Thirty features of each entry, each divided by its root mean square over the matrix
    `(out, in)`, one matrix per tap and group, enter a perceptron of two hidden layers of 8. Its
    outputs form matrices that are orthogonalized and brought to a root mean square of 1: `lr` is
    the RMS of a step. A parameter is made of matrices if each of its bundles has outputs and
    inputs and it is no embedding.

    Args:
        orthogonalize: whether matrices are orthogonalized (Celo2) or not (Celo2-base). If so,
            everything is computed in float64, whatever the parameter's dtype, because the
            iteration amplifies rounding errors about 500 times.
        exp_mult: how strongly the second output of the network, the magnitude, enters; published
            as 0.
        mult_1d: what Adam's direction is multiplied by.
        bias_correction: whether Adam's moments are corrected for their start at zero, as in the
            published recipe, or not, as in meta-training.
        seed: of the draw of theta.

    Raises:
        RuleError: if an option makes no sense.

    Source: Moudgil et al., Celo2 (github.com/amoudgl/celo), after Metz et al., "VeLO: Training
    versatile learned optimizers by scaling up", 2022.
    """

    def __init__(
        self,
        orthogonalize: bool = True,
        exp_mult: float = 0.0,
        mult_1d: float = 20.0,
        bias_correction: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (exp_mult >= 0 and mult_1d >= 0):
            raise RuleError(
                f"Celo2 got exp_mult={exp_mult} and mult_1d={mult_1d}.\n"
                "  Give numbers that are at least 0; published are exp_mult=0 and mult_1d=20."
            )
        self.orthogonalize = bool(orthogonalize)
        self.exp_mult = float(exp_mult)
        self.mult_1d = float(mult_1d)
        self.bias_correction = bool(bias_correction)
        self.seed = seed
        self.adam = Adam(BETAS, EPS)
        self.net = Perceptron([FEATURES, 8, 8, 3], torch.Generator().manual_seed(seed))

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build this rule again."""
        names = ("orthogonalize", "exp_mult", "mult_1d", "bias_correction", "seed")
        return {name: getattr(self, name) for name in names}

    def begin(self, parameter: Tensor, layout: Layout) -> dict[str, Tensor]:
        """Zero running means; what only matrices need is empty for all else."""
        return zeros(parameter, _shapes(layout))

    def advance(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the network on matrices, and Adam on all else."""
        state = fitted(state, _shapes(layout))
        wide = compute_dtype(parameter)
        if not _is_matrix(layout):
            return self._adam(parameter, gradient.clamp(-LARGEST, LARGEST), state, layout)
        dtype = torch.float64 if self.orthogonalize else wide
        gradient = gradient.to(dtype).clamp(-LARGEST, LARGEST)
        new = accumulate(state, gradient, layout, RATES)
        arrays = [
            self._direction(entry) for entry in entries(gradient, parameter, new, layout, EPS)
        ]
        update = layout.assemble(arrays, gradient).to(parameter.dtype)
        return update, {name: tensor.to(state[name].dtype) for name, tensor in new.items()}

    def _direction(self, entry: Entry) -> Tensor:
        """Turn the features of a bundle into its update `(group, out, in, tap)`."""
        gradient, root = entry.own[0], entry.own[9]
        features = [gradient, gradient.clamp(-0.1, 0.1), *entry.own[1:]]
        features += [gradient * root, *entry.factored]
        outputs = self.net(unit_stack(features, NEURONS, 1e-9))
        direction, magnitude, _ = outputs.unbind(-1)
        if self.exp_mult:
            direction = direction * torch.exp(self.exp_mult * magnitude)
        if self.orthogonalize:
            direction = orthogonalize(direction.movedim(3, 1), eps=EPS).movedim(1, 3)
        return unit_stack([direction], NEURONS, 1e-9).squeeze(-1)

    def _adam(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        names = {"step": "step", "exp_avg": MOMENTA[0], "exp_avg_sq": "square"}
        old = {name: state[ours] for name, ours in names.items()}
        update, moments = self.adam.advance(parameter, gradient, old, layout)
        if not self.bias_correction:
            update = moments["exp_avg"] * (moments["exp_avg_sq"] + EPS).rsqrt()
        new = {**state, **{ours: moments[name] for name, ours in names.items()}}
        return (self.mult_1d * update).to(parameter.dtype), new


def _is_matrix(layout: Layout) -> bool:
    factored = all(averaged(bundle) for bundle in layout.bundles)
    return bool(layout.bundles) and factored and layout.kind != "embedding"


def _shapes(layout: Layout) -> Shapes:
    shapes = state_shapes(layout)
    if not _is_matrix(layout):
        shapes |= {name: (0,) for name in (*MOMENTA[1:], "rows", "columns")}
    return shapes
