"""Sets: the layer of deep sets, and statistics of sets."""

import math

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine

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


class SetLayer(nn.Module):
    r"""The linear map of a set to a set that commutes with permutations of its elements.

    .. math::
        y_e = A x_e + B \operatorname{mean}_{e'} x_{e'} + c

    Args:
        inputs: number of features of an element.
        outputs: number of features of its image.
        generator: draws the weights.

    Source: Zaheer et al., "Deep Sets", NeurIPS 2017.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.each = Affine(inputs, outputs, generator)
        self.all = Affine(inputs, outputs, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., inputs)` to `(..., outputs)`; all dimensions but the last are the set."""
        result: Tensor = self.each(x) + self.all(x.flatten(0, -2).mean(0))
        return result
