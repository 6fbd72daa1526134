"""A long short-term memory that follows the dtype and device of its input."""

import torch
from torch import Tensor, nn

from ngopt.rules.layers.affine import Affine


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
