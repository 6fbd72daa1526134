"""Recurrent units that follow the dtype and device of their input."""

import torch
from torch import Tensor, nn

from ngopt.nn.affine import Affine


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


class LSTMCell(nn.Module):
    """One step of a long short-term memory, as `torch.nn.LSTMCell`.

    Args:
        inputs: number of inputs.
        hidden: number of units.
        generator: draws the weights.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997.
    """

    def __init__(self, inputs: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inputs = Affine(inputs, 4 * hidden, generator)
        self.recurrent = Affine(hidden, 4 * hidden, generator, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step.

        Args:
            x: `(..., inputs)`.
            hidden: hidden state before, `(..., hidden)`.
            cell: cell state before, `(..., hidden)`.

        Returns:
            Hidden and cell state after.
        """
        gates = self.inputs(x) + self.recurrent(hidden)
        enter, keep, new, show = gates.chunk(4, -1)  # in torch's order
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return show.sigmoid() * cell.tanh(), cell
