"""Statistics of sets."""

import math

import torch
from torch import Tensor

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
STATISTICS = 2 + len(QUANTILES)


def set_statistics(x: Tensor) -> Tensor:
    """Mean, variance and quantiles of each feature over a set.

    Args:
        x: `(elements, features)`, of any number of elements but none.

    Returns:
        `(STATISTICS * features,)`; quantiles between two elements are interpolated, as
        :func:`torch.quantile` does, which has a limit on the number of elements.
    """
    ordered = x.sort(0).values
    quantiles = []
    for quantile in QUANTILES:
        place = quantile * (len(ordered) - 1)
        low, high = math.floor(place), math.ceil(place)
        quantiles.append(torch.lerp(ordered[low], ordered[high], place - low))
    return torch.cat([x.mean(0), x.var(0, correction=0), *quantiles])
