"""Recurrent language models that predict the next character."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_train.data.text import text
from meta_train.spec import look_up
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import next_character
from meta_train.tasks.model_task import ModelTask


class RNNCell(nn.Module):
    """Elman's cell, written in elementary operations: torch's own cannot be vmapped everywhere.

    Args:
        width: of inputs and outputs.
    """

    gates = 1
    """How many times `width` numbers the inputs and the hidden state are mapped to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, self.gates * width)
        self.hidden = nn.Linear(width, self.gates * width)

    def forward(self, x: Tensor) -> Tensor:
        """Run over a sequence (batch, length, width), from zeros; outputs have its shape."""
        state = self.begin(x)
        outputs = []
        for step in self.into(x).unbind(1):
            state = self.advance(step, self.hidden(state[0]), state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)

    def begin(self, x: Tensor) -> tuple[Tensor, ...]:
        """State before the first step; its first tensor is the output."""
        return (torch.zeros_like(x[:, 0]),)

    def advance(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Do one step, given the gates' shares of input and hidden state."""
        return ((x + h).tanh(),)


class GRUCell(RNNCell):
    """Gated recurrent unit, as torch defines it."""

    gates = 3

    def advance(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Do one step."""
        (old,) = state
        (x_reset, x_keep, x_new), (h_reset, h_keep, h_new) = x.chunk(3, -1), h.chunk(3, -1)
        new = (x_new + (x_reset + h_reset).sigmoid() * h_new).tanh()
        keep = (x_keep + h_keep).sigmoid()
        return (new + keep * (old - new),)


class LSTMCell(RNNCell):
    """Long short-term memory, as torch defines it."""

    gates = 4

    def begin(self, x: Tensor) -> tuple[Tensor, ...]:
        """Zeros, for the output and for the memory."""
        zeros = torch.zeros_like(x[:, 0])
        return zeros, zeros

    def advance(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Do one step."""
        enter, keep, new, show = (x + h).chunk(4, -1)
        memory = keep.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
        return show.sigmoid() * memory.tanh(), memory


CELLS: dict[str, type[RNNCell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}
"""Recurrent cells by name."""


@register("rnn_lm")
@dataclass(frozen=True)
class RNNLM(Family):
    """Recurrent networks over characters: embedding, recurrent layers, linear layer.

    Args:
        data: texts.
        length: of the windows, in characters.
        width: of embedding and hidden state.
        depth: number of recurrent layers.
        cell: of :data:`CELLS`.
        batch: windows per step.
    """

    data: tuple[str, ...] = ("descriptions",)
    length: tuple[int, ...] = (16,)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (1,)
    cell: tuple[str, ...] = ("rnn", "gru", "lstm")
    batch: tuple[int, ...] = (16,)

    def task(
        self, data: str, length: int, width: int, depth: int, cell: str, batch: int
    ) -> ModelTask:
        """Build the task of one choice of each field."""
        dataset = text(data, length)
        make_cell = look_up(CELLS, cell, "recurrent cell")

        def build() -> nn.Module:
            embedding = nn.Embedding(dataset.classes, width)
            layers = [make_cell(width) for _ in range(depth)]
            return nn.Sequential(embedding, *layers, nn.Linear(width, dataset.classes))

        return ModelTask(build, dataset, next_character, batch)
