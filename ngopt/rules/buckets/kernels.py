"""Kernels of a step: functions of single entries, compiled when first needed."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ngopt.backends.function import Argument, ArgumentShape, Result, Use
from ngopt.backends.kernel import Kernel, Make
from ngopt.features.bundle_statistics import Products
from ngopt.features.entry_features import Edges, Entries, Scales, entry_features
from ngopt.features.moments import FIXED, Moments, Window, update_moments
from ngopt.features.scale import root
from ngopt.rules.base_update import BaseUpdate
from ngopt.rules.layers.entry_head import unit_by_unit

Dtypes = tuple[torch.dtype, ...]
FEATURES = len(Entries._fields)
NUMBER, ENTRY = Argument(ArgumentShape.SCALAR), Argument(ArgumentShape.ENTRY)
OWN = Argument(ArgumentShape.ENTRY, pitched=True)
"""Entries in the memory layout of parameters."""
STORE = Result((Use.STORE,))
MOMENTS = (5, 6, 7)
"""Positions of the moments, which are overwritten, among the arguments."""


def common_arguments(dtypes: Dtypes) -> list[Argument]:
    """Arguments of all kernels.

    They are weight, gradient, its factor, whether all gradients are finite, number of gradients
    before, moments.

    Args:
        dtypes: of the stored moments.
    """
    moments = [Argument(ArgumentShape.ENTRY, dtype, pitched=True) for dtype in dtypes]
    return [OWN, OWN, NUMBER, NUMBER, NUMBER, *moments]


def edges_of(
    weight: Tensor,
    gradient: Tensor,
    factor: Tensor,
    finite: Tensor,
    step: Tensor,
    *moments: Tensor,
    window: Window = FIXED,
) -> tuple[Edges, dict[str, Tensor]]:
    """Edges, and the state after this step. Gradients count as 0 where any is not finite."""
    gradient = torch.where(finite > 0, gradient * factor, torch.zeros_like(gradient))
    before = {"step": step, **dict(zip(Moments._fields, moments, strict=True))}
    after, corrected = update_moments(before, gradient, window)
    return Edges.of(weight, gradient, corrected), after


@cache
def statistics_kernel(make: Make, base_update: BaseUpdate, dtypes: Dtypes) -> Kernel:
    """Sums of products by row and column, of the squares of slow momentum and base direction."""

    def function(*given: Tensor) -> Sequence[Tensor]:
        edges, after = edges_of(*given, window=base_update.window)
        base = base_update.base(edges.adam, edges.slow, edges.relative, after["step"])
        return [*Products.of(edges), edges.moments.slow.square(), base.square()]

    sums = [Result((Use.ROW_SUM, Use.COLUMN_SUM))] * len(Products._fields)
    return make(function, common_arguments(dtypes), [*sums, *[Result((Use.SUM,))] * 2])


@cache
def message_matrices_kernel(make: Make, dtypes: Dtypes) -> Kernel:
    """Weights, Adam's direction and the fast momentum, along which messages go."""

    def function(*given: Tensor) -> Sequence[Tensor]:
        edges, _ = edges_of(*given)
        return [edges.weight, edges.adam, edges.moments.fast]

    return make(function, common_arguments(dtypes), [STORE] * 3)


@cache
def mixture_kernel(make: Make, base_update: BaseUpdate, dtypes: Dtypes) -> Kernel:
    """The mixture of momenta; for whitening, the gradient too.

    The last argument is the factor of the weight of the slow momentum.
    """
    results = 2 if base_update.whitening_limit else 1

    def function(*given: Tensor) -> Sequence[Tensor]:
        *arguments, factor = given
        edges, after = edges_of(*arguments, window=base_update.window)
        fast, slow, _ = edges.moments
        mixture = base_update.base(fast, slow, edges.gradient, after["step"], factor)
        return [mixture, edges.gradient][:results]

    return make(function, [*common_arguments(dtypes), NUMBER], [STORE] * results)


@cache
def gated_squares_kernel(make: Make, base_update: BaseUpdate, dtypes: Dtypes) -> Kernel:
    """Sum of the squares of a direction where there ever was a gradient."""

    def function(*given: Tensor) -> Sequence[Tensor]:
        *arguments, whole = given
        edges, _ = edges_of(*arguments)
        return [base_update.gate(whole, edges.moments).square()]

    return make(function, [*common_arguments(dtypes), ENTRY], [Result((Use.SUM,))])


@cache
def correction_kernel(
    make: Make,
    base_update: BaseUpdate,
    dtypes: Dtypes,
    hidden: int,
    *,
    matrix: bool,
    neurons: bool,
    diagnostics: bool,
) -> Kernel:
    """The corrected direction and the sum of its squares; corrections for diagnostics.

    Moments overwrite those before.

    Args:
        make: makes the kernel.
        base_update: of the rule.
        dtypes: of the stored moments.
        hidden: number of hidden units of the network of entries.
        matrix: whether an orthogonalized direction is given, with the sum of the squares of its
            bundle and their number.
        neurons: whether states of neurons are inputs.
        diagnostics: whether to return corrections.
    """
    numbers = Argument(ArgumentShape.SCALAR, count=hidden)
    arguments = [
        *common_arguments(dtypes),
        *([ENTRY, NUMBER, NUMBER] if matrix else []),
        *[NUMBER] * 4,
        Argument(ArgumentShape.ROW),
        Argument(ArgumentShape.COLUMN),
        Argument(ArgumentShape.SCALAR, count=FEATURES * hidden),
        numbers,
        numbers,
        *(
            [
                Argument(ArgumentShape.ROW, count=hidden),
                Argument(ArgumentShape.COLUMN, count=hidden),
            ]
            * neurons
        ),
    ]

    def function(*given: Tensor) -> Sequence[Tensor]:
        left = list(given)

        def take(count: int) -> list[Tensor]:
            taken, left[:] = left[:count], left[count:]
            return taken

        finite, *moments = (given[n] for n in (3, *MOMENTS))
        edges, after = edges_of(*take(8), window=base_update.window)
        orthogonal = take(3) if matrix else []
        mean, fast, weight, decay, row, column = take(6)
        if orthogonal:
            whole, total, count = orthogonal
            base = base_update.gate(whole, edges.moments) * base_update.rescale(mean, total / count)
        else:
            base = base_update.base(edges.adam, edges.slow, edges.relative, after["step"])
        scales = Scales(row, column, fast, weight, mean)
        flat, outputs, context = take(FEATURES * hidden), take(hidden), take(hidden)
        weights = [flat[unit::hidden] for unit in range(hidden)]
        offsets = [context, *([take(hidden), take(hidden)] if neurons else [])]
        features = entry_features(edges, base, scales)
        correction = unit_by_unit(features, weights, outputs, offsets)
        correction = base_update.gate(correction, edges.moments)
        direction = base_update.correct(base, correction, mean, after["step"])
        pull = base_update.gate(features.weight, edges.moments)
        direction = direction + pull * (root(mean) * decay)
        pairs = zip(Moments._fields, moments, strict=True)
        kept = [torch.where(finite > 0, after[key], before.float()) for key, before in pairs]
        return [direction, direction.square(), *kept, *([correction] if diagnostics else [])]

    stored = [Result((Use.STORE,), dtype, n) for dtype, n in zip(dtypes, MOMENTS, strict=True)]
    results = [STORE, Result((Use.SUM,)), *stored, *([STORE] if diagnostics else [])]
    return make(function, arguments, results)


@cache
def update_kernel(make: Make, base_update: BaseUpdate) -> Kernel:
    """Move weights along a direction, in place, and leave a share of them.

    After both come the mean square that the direction is to have, the sum of the squares that it
    has and their number, the size of a full step, the evidence for it, the number of gradients
    before, the learning rate, and the share.
    """

    def function(weight: Tensor, direction: Tensor, *numbers: Tensor) -> Sequence[Tensor]:
        mean, total, count, full, evidence, before, rate, kept = numbers
        size = full * base_update.share(evidence, before + 1) * rate
        return [weight * kept - direction * (base_update.rescale(mean, total / count) * size)]

    return make(function, [OWN, ENTRY, *[NUMBER] * 8], [Result((Use.STORE,), into=0)])
