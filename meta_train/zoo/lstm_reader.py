"""The model of the zoo of recurrent networks."""

import torch
from torch import Tensor, nn

from meta_train.zoo.architecture import model


@model("lstm")
class LSTMReader(nn.Module):
    """LSTM layers, and a linear read-out of each hidden state of the top one.

    Args:
        inputs: number of numbers read in each step.
        hidden: number of neurons of each layer.
        layers: number of layers.
        outputs: number of numbers answered in each step.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.read_out = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Read sequences `(batch, length, inputs)`; answer `(batch, length, outputs)`."""
        answers: Tensor = self.read_out(self.lstm(x)[0])
        return answers

    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs of a forward pass."""
        return (torch.zeros(2, 3, self.lstm.input_size),)
