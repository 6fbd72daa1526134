"""An LSTM on the characters of Shakespeare, by char-rnn's recipe over a sixteenth of its epochs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.workloads.evaluating import evaluating
from benchmarks.workloads.texts import Characters, next_character_loss
from benchmarks.workloads.workload import Recipe, Training, Workload

WIDTH, LAYERS, LENGTH, BATCH, STEPS = 128, 2, 50, 50, 1200


class CharLSTM(nn.Module):
    """Characters as unit vectors, LSTM layers, a linear layer.

    Args:
        vocabulary: number of characters.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.lstm = nn.LSTM(vocabulary, WIDTH, LAYERS, batch_first=True)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """From characters (batch, length) to logits (batch, length, vocabulary)."""
        return self.head(self.lstm(F.one_hot(x, self.vocabulary).float())[0])


def late_decay(step: int) -> float:
    """Constant for a fifth of the run, then down to 0.3: 40 epochs of 0.97 each in char-rnn."""
    return 0.97 ** (40 * max(0.0, step / STEPS - 0.2) / 0.8)


class LSTMTraining(Training):
    """Training of the LSTM. Each row begins with an empty state; char-rnn goes on with the last.

    Args:
        seed: of weights and batches.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.text = Characters.shakespeare()
        self.model = CharLSTM(len(self.text.vocabulary))
        recipe = Recipe(torch.optim.RMSprop, 2e-3, {"alpha": 0.95}, schedule=late_decay)
        super().__init__([(self.model, recipe)], clip=5.0)
        self.generator = torch.Generator().manual_seed(seed)

    def loss(self) -> Tensor:
        """Cross-entropy of the next characters, in nats."""
        x, y = self.text.batch("train", BATCH, LENGTH, self.generator)
        return next_character_loss(self.model, x, y)

    def metric(self) -> float:
        """The same on 600 rows of the held-out tenth of the text."""
        generator = torch.Generator().manual_seed(0)
        x, y = self.text.batch("held_out", 600, LENGTH, generator)
        with evaluating(self.model):
            return next_character_loss(self.model, x, y).item()


WORKLOAD = Workload(
    name="lstm_lm",
    title="character LSTM, Shakespeare",
    build=LSTMTraining,
    steps=STEPS,
    every=60,
    metric="validation loss",
    source="after A. Karpathy, char-rnn's defaults, https://github.com/karpathy/char-rnn: "
    "RMSprop 2e-3, gradients clipped at 5 (here their norm), 3 epochs instead of 50",
)
