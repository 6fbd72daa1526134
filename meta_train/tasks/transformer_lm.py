"""Small transformers that predict the next character."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meta_train.data.text import text
from meta_train.tasks.attention import Layer
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import next_character
from meta_train.tasks.model_task import ModelTask


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
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
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
        dataset = text(data, length)

        def build() -> nn.Module:
            return self.model(dataset.classes, length, width, depth, heads, activation)

        return ModelTask(build, dataset, next_character, batch)

    def model(
        self, characters: int, length: int, width: int, depth: int, heads: int, activation: str
    ) -> nn.Module:
        """Build a model of one choice of each field."""
        return nn.Sequential(
            Embedding(characters, length, width),
            *(Layer(width, heads, activation, causal=True) for _ in range(depth)),
            nn.LayerNorm(width),
            nn.Linear(width, characters),
        )
