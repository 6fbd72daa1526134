"""The layer of deep sets."""

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine


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
