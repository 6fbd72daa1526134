"""Small transformers that predict the next character."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_train.data.text import text
from meta_train.errors import MetaTrainError
from meta_train.tasks.activations import activation as make_activation
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.next_character import next_character


class Attention(nn.Module):
    """Causal self-attention, written out: torch's fused kernels have no second derivative.

    Args:
        width: of inputs and outputs.
        heads: divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        future = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -math.inf).softmax(-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """Attention and a perceptron, each normalised first and added to its input.

    Args:
        width: of inputs and outputs.
        heads: of the attention.
        act: activation of the perceptron, whose hidden layer is four times as wide.
    """

    def __init__(self, width: int, heads: int, act: str) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            make_activation(act),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, width) to the same shape."""
        x = x + self.attention(x)
        result: Tensor = x + self.perceptron(x)
        return result


class Embedding(nn.Module):
    """Learned embeddings of characters and of positions, added.

    Args:
        characters: size of the alphabet.
        length: of the sequences.
        width: of the embeddings.
    """

    def __init__(self, characters: int, length: int, width: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Parameter(torch.randn(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, length) int64 to (batch, length, width)."""
        embedded: Tensor = self.characters(tokens) + self.positions
        return embedded


@register("transformer_lm")
@dataclass(frozen=True)
class TransformerLM(Family):
    """Causal transformers over characters, with normalisation before each part.

    Args:
        data: texts.
        length: of the windows, in characters.
        width: of the residual stream.
        depth: number of layers.
        heads: divides the width.
        activation: of :data:`~meta_train.tasks.activations.ACTIVATIONS`.
        batch: windows per step.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    data: tuple[str, ...] = ("descriptions",)
    length: tuple[int, ...] = (16,)
    width: tuple[int, ...] = (16, 32)
    depth: tuple[int, ...] = (1, 2)
    heads: tuple[int, ...] = (2, 4)
    activation: tuple[str, ...] = ("gelu",)
    batch: tuple[int, ...] = (16,)

    def task(
        self,
        data: str,
        length: int,
        width: int,
        depth: int,
        heads: int,
        activation: str,
        batch: int,
    ) -> ModelTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if the heads do not divide the width.
        """
        if width % heads:
            raise MetaTrainError(
                f"a transformer of width {width} cannot have {heads} heads.\n"
                "  Choose numbers of heads that divide each width."
            )
        dataset = text(data, length)

        def build() -> nn.Module:
            return nn.Sequential(
                Embedding(dataset.classes, length, width),
                *(Layer(width, heads, activation) for _ in range(depth)),
                nn.LayerNorm(width),
                nn.Linear(width, dataset.classes),
            )

        return ModelTask(build, dataset, next_character, batch)
