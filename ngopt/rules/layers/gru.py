"""A gated recurrent unit that follows the dtype and device of its input."""

import torch
from torch import Tensor, nn

from ngopt.rules.layers.affine import Affine


class GRU(nn.Module):
    """One step of a gated recurrent unit, as `torch.nn.GRUCell`.

    Args:
        inputs: number of inputs.
        width: size of the memory.
        generator: draws the weights.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014.
    """

    def __init__(self, inputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inputs = Affine(inputs, 3 * width, generator)
        self.memory = Affine(width, 3 * width, generator)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Compute the new memory `(..., width)` from `x (..., inputs)` and the old one."""
        reset, keep, new = self.inputs(x).chunk(3, -1)
        old_reset, old_keep, old_new = self.memory(memory).chunk(3, -1)
        keep = torch.sigmoid(keep + old_keep)
        new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
        return keep * memory + (1 - keep) * new
