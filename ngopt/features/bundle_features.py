"""Features of whole bundles: their statistics, number of steps, and structure in the graph."""

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from ngopt.features.bundle_statistics import BundleStatistics
from ngopt.features.numbers import constant
from ngopt.features.scale import log_ratio, root
from ngopt.graph.bundle import Bundle, Role
from ngopt.graph.layout import Kind, Layout
from ngopt.graph.neural_graph import NeuralGraph

KINDS: tuple[Kind, ...] = get_args(Kind)
HORIZONS = (3.0, 30.0, 300.0, 3000.0)
"""Steps at which the step features change sign."""

STATISTICS = 4
STRUCTURE_PARTS = {"depth": 1, "fans": 2, "ends": 2, "axes": 2, "kind": len(KINDS)}
"""What the features that the graph determines tell of, and how many numbers each takes."""

STRUCTURE = sum(STRUCTURE_PARTS.values())
TENSOR_FEATURES = STATISTICS + len(HORIZONS) + STRUCTURE


def fan_in(bundle: Bundle) -> int:
    """Number of inputs that add up in one output; 1 for biases and the like.

    Taps count, except those on the axis of the outputs, such as the gates of a recurrent layer.
    """
    return _fan(bundle, "in", "out") if "in" in bundle.roles else 1


def fan_out(bundle: Bundle) -> int:
    """Number of outputs that one input adds to.

    Taps count, except those on the axis of the inputs, such as the positions of a flattened image.
    """
    return _fan(bundle, "out", "in")


def _fan(bundle: Bundle, role: Role, other: Role) -> int:
    parts = list(zip(bundle.sizes, bundle.roles, bundle.axes, strict=True))
    others = {axis for _, r, axis in parts if r == other}
    counted = [s for s, r, axis in parts if r == role or (r == "tap" and axis not in others)]
    return math.prod(counted)


def input_indices(bundle: Bundle) -> int:
    """Fan-in without kernel taps: input neurons, times the positions beside them on their axis."""
    parts = list(zip(bundle.sizes, bundle.roles, bundle.axes, strict=True))
    axes = {axis for _, role, axis in parts if role == "in"}
    counted = [n for n, role, axis in parts if role != "out" and axis in axes]
    return math.prod(counted)


def structure(graph: NeuralGraph, layout: Layout, bundle: Bundle) -> list[float]:
    """Features that the graph alone determines.

    Returns:
        Relative depth (0 to 1); log fan-in and log fan-out (in units of 10); whether output and
        input neurons are pinned; number of axes (in units of 4); whether the parameter has no
        inputs, as a bias; one-hot kind of layer.
    """
    return [
        layout.depth,
        math.log(fan_in(bundle)) / 10,
        math.log(fan_out(bundle)) / 10,
        float(any(graph.spaces[name].pinned for name in bundle.out_neurons)),
        float(any(graph.spaces[name].pinned for name in bundle.in_neurons)),
        len(layout.shape) / 4,
        float("in" not in bundle.roles),
        *(float(layout.kind == kind) for kind in KINDS),
    ]


def statistics(bundle_statistics: Sequence[BundleStatistics]) -> Tensor:
    """Compute the scale-free statistics of bundles.

    Returns:
        `(bundles, STATISTICS)`: RMS of the Adam direction; bounded log ratios of the RMS of fast
        momentum to gradient, of slow to fast momentum, and of gradient to the root of the mean
        square.
    """
    numbers = [
        torch.stack([s.slow, s.whole.fast, s.whole.gradient, s.whole.square, s.whole.adam])
        for s in bundle_statistics
    ]
    slow, fast, gradient, square, adam = torch.stack(numbers, 1)
    ratios = [(fast, gradient), (slow, fast), (gradient, square)]
    above, below = (torch.stack(squares, 1) for squares in zip(*ratios, strict=True))
    return torch.cat([root(adam).unsqueeze(1), log_ratio(above, below)], 1)


def step_features(step: Tensor) -> Tensor:
    """Bounded features of time: `tanh(log(step / T))` for each T of `HORIZONS`.

    Args:
        step: number of gradients seen, at least 1, any shape.

    Returns:
        `(..., len(HORIZONS))`, from -1 (step 0) to 1.
    """
    square = (step.unsqueeze(-1) / constant(HORIZONS, step)).square()
    return (square - 1) / (square + 1)


def tensor_features(
    structures: Sequence[Sequence[float]],
    bundles: Sequence[BundleStatistics],
    steps: Sequence[Tensor],
) -> Tensor:
    """Compute the features of all bundles.

    Args:
        structures: what :func:`structure` returned, for each bundle.
        bundles: statistics of each bundle.
        steps: number of gradients seen, 0-dim, for each bundle.

    Returns:
        `(bundles, TENSOR_FEATURES)`, of the dtype of the statistics.
    """
    numbers = statistics(bundles)
    times = step_features(torch.stack(list(steps)).to(numbers.dtype))
    return torch.cat([numbers, times, constant(structures, numbers)], 1)
