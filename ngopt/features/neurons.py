"""Features of neurons: statistics of the rows and columns that meet in them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ngopt.features.scale import log_ratio, root_inverse
from ngopt.features.survey import Products, Survey
from ngopt.graph.bundle import Bundle

Neurons = tuple[str, ...]
"""A set of neurons: the names of the spaces whose product it is."""

STATISTICS = 4
NEURON_FEATURES = 2 * STATISTICS
"""Statistics as an output of bundles, then as an input of bundles."""


class Ends(NamedTuple):
    """The sets of neurons that a bundle connects; an end without neurons is empty.

    Args:
        out: set of the `group * out` output neurons.
        into: set of the `group * in` input neurons.
    """

    out: Neurons
    into: Neurons


NOWHERE = Ends((), ())
"""Of a bundle that connects no neurons."""


def ends(bundle: Bundle) -> Ends:
    """Return the sets of neurons at both ends of a bundle."""
    group, outputs, inputs, _ = bundle.shape
    return Ends(
        _whole(bundle, bundle.out_neurons, group * outputs),
        _whole(bundle, bundle.in_neurons, group * inputs),
    )


def _whole(bundle: Bundle, neurons: Neurons, count: int) -> Neurons:
    # A free dimension among the outputs or inputs leaves an end that is not a set of neurons.
    sizes = dict(zip(bundle.factors, bundle.sizes, strict=True))
    for name in neurons:
        count //= sizes[name]
    return neurons if count == 1 else ()


class IncidentMean:
    """Mean, per neuron, of what the incident bundles say; the order of bundles does not matter."""

    def __init__(self) -> None:
        self._sums: dict[Neurons, Tensor] = {}
        self._counts: dict[Neurons, int] = {}

    def add(self, neurons: Neurons, values: Tensor) -> None:
        """Add what one bundle says: `(neurons, features)`. An empty set is passed over."""
        if neurons:
            known = self._sums.get(neurons)
            self._sums[neurons] = values if known is None else known + values
            self._counts[neurons] = self._counts.get(neurons, 0) + 1

    def result(self) -> dict[Neurons, Tensor]:
        """Return the mean `(neurons, features)` of each set that anything was said about."""
        return {neurons: total / self._counts[neurons] for neurons, total in self._sums.items()}


def neuron_features(bundles: Iterable[tuple[Ends, Survey]]) -> dict[Neurons, Tensor]:
    """Compute the features of each set of neurons.

    Args:
        bundles: the ends and the survey of each bundle.

    Returns:
        For each set of neurons `(neurons, NEURON_FEATURES)`: the mean over the bundles that lead
        into the neuron, then over those that lead out of it, of the row's (column's) RMS of Adam
        direction, gradient and weight relative to the whole bundle's (bounded log ratios) and of
        the cosine between gradient and fast momentum. Zeros where there is no such bundle.
    """
    incoming, outgoing = IncidentMean(), IncidentMean()
    for (out, into), survey in bundles:
        if out:
            incoming.add(out, _statistics(survey.rows))
        if into:
            outgoing.add(into, _statistics(survey.columns))
    means = incoming.result(), outgoing.result()
    result = {}
    for neurons in {**means[0], **means[1]}:
        sides = [side.get(neurons) for side in means]
        known = next(side for side in sides if side is not None)
        whole = [torch.zeros_like(known) if side is None else side for side in sides]
        result[neurons] = torch.cat(whole, 1)
    return result


def _statistics(means: Products) -> Tensor:
    """Statistics `(neurons, STATISTICS)` of means over rows or over columns."""
    cosine = means.alignment * root_inverse(means.gradient) * root_inverse(means.fast)
    squares = torch.stack([means.adam, means.gradient, means.weight], -1)
    ratios = log_ratio(squares, squares.mean((0, 1)))
    return torch.cat([ratios, cosine.unsqueeze(-1)], -1).flatten(0, 1)
