"""Layer normalisation that follows the dtype and device of its input."""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the last axis, then a learned gain and bias.

    Nothing is averaged over neurons, edges or models, so each of them is on its own. A constant
    input gives the bias, with a finite derivative.

    Args:
        width: size of the last axis.

    Source: Ba et al., "Layer normalization", 2016.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(width, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., width)`."""
        return nn.functional.layer_norm(
            x, self.weight.shape, self.weight.to(x), self.bias.to(x), eps=1e-5
        )
