"""Texts as characters, for language models."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from meta_train.data.folder import data_folder
from meta_train.data.text import tiny_shakespeare


@dataclass(frozen=True, eq=False)
class Characters:
    """A text as indices of characters; its last tenth is held out.

    Args:
        vocabulary: its characters, sorted.
        splits: `train` and `held_out`, one int64 tensor each.
    """

    vocabulary: str
    splits: dict[str, Tensor]

    @classmethod
    def of(cls, text: str) -> "Characters":
        """Those of a text."""
        vocabulary = "".join(sorted(set(text)))
        index = {character: i for i, character in enumerate(vocabulary)}
        codes = torch.tensor([index[character] for character in text])
        train, held_out = codes.tensor_split([len(codes) * 9 // 10])
        return cls(vocabulary, {"train": train, "held_out": held_out})

    @classmethod
    def shakespeare(cls) -> "Characters":
        """Those of a million characters of Shakespeare's plays."""
        return _shakespeare()

    def batch(
        self, split: str, size: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw windows (size, length), and the characters after each of theirs."""
        codes = self.splits[split]
        starts = torch.randint(len(codes) - length, (size, 1), generator=generator)
        index = starts + torch.arange(length + 1)
        windows = codes[index]
        return windows[:, :-1], windows[:, 1:]


def next_character_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in nats, a mean over characters.

    Args:
        model: from characters (batch, length) to logits (batch, length, vocabulary).
        x: characters (batch, length) int64.
        y: the character after each of them, (batch, length) int64.
    """
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


@cache
def _shakespeare() -> Characters:
    return Characters.of(tiny_shakespeare(data_folder()))
