"""What the LSTMs of a zoo learn: a formal language each, or digits turned by an angle each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from meta_train.data.dataset import RawImages
from meta_train.data.folder import data_folder
from meta_train.data.mnist import mnist
from meta_train.zoo.languages import TOKENS, Corpus, Language, one_hot, read, speak
from meta_train.zoo.tiles import rotated, tiled
from ngopt.encoders.recurrent import LSTMs

CLASSES = 10


class Problem(Protocol):
    """What some networks, that are trained at once, learn: one thing each."""

    @property
    def decay(self) -> Tensor:
        """Weight decay of each network, `(networks,)`."""

    def losses(self, networks: LSTMs) -> Tensor:
        """Draw a batch for each network; return its loss, `(networks,)`."""

    def measure(self, networks: LSTMs) -> dict[str, Tensor]:
        """How good the networks are: figures by name, `(networks,)` each."""


@dataclass(frozen=True)
class Speaking:
    """Formal languages: predict each next token of a word, and then its end, over and over.

    Args:
        spoken: all languages of the zoo.
        corpus: their words.
        chosen: which language each network learns, `(networks,)`.
        decay: weight decay of each network, `(networks,)`.
        batch: words per step.
        samples: number of sequences that a network writes to be judged.
        generator: draws words and sequences.
    """

    spoken: Sequence[Language]
    corpus: Corpus
    chosen: Tensor
    decay: Tensor
    batch: int
    samples: int
    generator: torch.Generator

    def losses(self, networks: LSTMs) -> Tensor:
        """Draw words for each network; return the mean loss of a token, `(networks,)`."""
        shares = self.corpus.shares(self.chosen, self.batch, self.generator)
        return self._losses(networks, shares)

    def _losses(self, networks: LSTMs, shares: Tensor) -> Tensor:
        words = self.corpus.tokens[self.chosen]
        answers = networks.run(one_hot(read(words)).to(networks.bias))
        each = cross_entropy(
            answers.flatten(0, -2), words.flatten().to(answers.device), reduction="none"
        )
        return (each.view(words.shape).mean(-1) * shares.to(each)).sum(-1)

    @torch.no_grad()
    def measure(self, networks: LSTMs) -> dict[str, Tensor]:
        """Share of sequences written that are words, and the loss on all words.

        The generator is left as it was, so that looking changes nothing.
        """
        own = torch.Generator().manual_seed(self.generator.initial_seed())
        tokens, _ = speak(networks, self.samples, self.corpus.tokens.shape[-1], own)
        right = [
            self.spoken[number].has(written).float().mean()
            for number, written in zip(self.chosen.tolist(), tokens, strict=True)
        ]
        known = torch.arange(self.corpus.tokens.shape[1]) < self.corpus.words[self.chosen, None]
        shares = known / self.corpus.words[self.chosen, None]
        return {"accuracy": torch.stack(right), "loss": self._losses(networks, shares)}


@dataclass(frozen=True)
class Turned:
    """Digits as sequences of tiles, turned by one angle for each network: name them all along.

    Args:
        angles: of each network in degrees, `(networks,)`.
        chosen: numbers of the training images of each network, `(networks, images)`.
        decay: weight decay of each network, `(networks,)`.
        batch: images per step.
        samples: number of training and of test images that a network is judged on.
        tile: pixels along a side of a tile.
        generator: draws images.
    """

    angles: Tensor
    chosen: Tensor
    decay: Tensor
    batch: int
    samples: int
    tile: int
    generator: torch.Generator

    def losses(self, networks: LSTMs) -> Tensor:
        """Draw images for each network; return the mean loss over all places, `(networks,)`."""
        size = (len(self.angles), self.batch)
        drawn = torch.randint(self.chosen.shape[1], size, generator=self.generator)
        raw = digits()
        index = self.chosen.gather(1, drawn)
        losses, _ = self._judge(networks, raw.training[index], raw.training_labels[index])
        return losses

    @torch.no_grad()
    def measure(self, networks: LSTMs) -> dict[str, Tensor]:
        """Accuracy after the last tile, losses on training and test images, and their gap."""
        raw = digits()
        index = self.chosen[:, : self.samples]
        train, _ = self._judge(networks, raw.training[index], raw.training_labels[index])
        own = torch.Generator().manual_seed(self.generator.initial_seed())
        index = torch.randint(len(raw.test), (len(self.angles), self.samples), generator=own)
        test, accuracy = self._judge(networks, raw.test[index], raw.test_labels[index])
        return {"accuracy": accuracy, "train_loss": train, "loss": test, "gap": test - train}

    def _judge(self, networks: LSTMs, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses over all places and accuracies at the last, `(networks,)` each."""
        pixels = images.squeeze(2).to(networks.bias) / 255
        answers = networks.run(tiled(rotated(pixels, self.angles), self.tile))
        wanted = labels.to(answers.device)
        every = wanted.unsqueeze(-1).expand(answers.shape[:-1])
        each = cross_entropy(answers.flatten(0, -2), every.flatten(), reduction="none")
        accuracy = (answers[:, :, -1].argmax(-1) == wanted).to(each).mean(-1)
        return each.view(every.shape).mean((1, 2)), accuracy


def digits() -> RawImages:
    """Return the MNIST images, `(n, 1, 28, 28)`, read once."""
    return _digits(data_folder())


@cache
def _digits(folder: Path) -> RawImages:
    return mnist(folder)


def sizes(task: str, tile: int) -> tuple[int, int]:
    """Numbers of inputs and outputs of the networks of a task."""
    return (TOKENS, TOKENS) if task == "languages" else (tile * tile, CLASSES)
