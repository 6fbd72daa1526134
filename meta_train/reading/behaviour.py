"""What recurrent networks of a zoo do: sequences that they read, and what they answer."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from meta_train.zoo.languages import Corpus, before_end, languages, one_hot, read, speak
from meta_train.zoo.rnn_problems import digits
from meta_train.zoo.store import Zoo
from meta_train.zoo.tiles import rotated, tiled
from ngopt.encoders.recurrent import LSTMs


class Behaviour(NamedTuple):
    """Sequences and answers of some networks.

    Args:
        read: what the networks read, `(networks, sequences, length, inputs)`.
        answers: logarithms of their probabilities, `(networks, sequences, length, outputs)`.
        counted: which answers matter, booleans `(networks, sequences, length)`.
    """

    read: Tensor
    answers: Tensor
    counted: Tensor

    def mean(self, each: Tensor) -> Tensor:
        """Mean over the answers of each network that matter, `(networks,)`.

        Args:
            each: a figure of each answer, `(networks, sequences, length)`.
        """
        counted = self.counted.to(each)
        return (each * counted).sum((1, 2)) / counted.sum((1, 2))


class Observer(ABC):
    """Watches the networks of a zoo."""

    @abstractmethod
    def watch(
        self, networks: LSTMs, sequences: int, generator: torch.Generator, train: bool
    ) -> Behaviour:
        """Draw sequences for each network and run it.

        Args:
            networks: to run; no gradient flows to them.
            sequences: how many each network reads.
            generator: draws the sequences.
            train: whether they are to learn from; where they are data, there are others for tests.
        """


class Words(Observer):
    """Lets networks write: each token is drawn from their answer to those before it.

    Answers after the end of a word do not count: there is nothing to them.

    Args:
        length: of a sequence.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    @torch.no_grad()
    def watch(
        self, networks: LSTMs, sequences: int, generator: torch.Generator, train: bool
    ) -> Behaviour:
        """Draw sequences; see :meth:`Observer.watch`."""
        tokens, answers = speak(networks, sequences, self.length, generator)
        known = read(tokens)
        return Behaviour(one_hot(known).to(answers), answers, before_end(known))


class Digits(Observer):
    """Shows networks digits, each turned by an angle from anywhere: they know only their own.

    Args:
        tile: pixels along a side of a tile.
    """

    def __init__(self, tile: int) -> None:
        self.tile = tile

    @torch.no_grad()
    def watch(
        self, networks: LSTMs, sequences: int, generator: torch.Generator, train: bool
    ) -> Behaviour:
        """Draw images; see :meth:`Observer.watch`."""
        raw = digits()
        images = raw.training if train else raw.test
        shape, device = (len(networks), sequences), generator.device
        drawn = torch.randint(len(images), shape, generator=generator, device=device).cpu()
        angles = 360 * torch.rand(shape, generator=generator, device=device)
        pixels = images[drawn].squeeze(2).to(networks.bias) / 255
        seen = tiled(rotated(pixels, angles), self.tile)
        answers = networks.run(seen).log_softmax(-1)
        return Behaviour(seen, answers, torch.ones_like(answers[..., 0], dtype=torch.bool))


def observer_of(zoo: Zoo) -> Observer:
    """What watches the networks of a zoo.

    Raises:
        MetaTrainError: if they are no recurrent networks.
    """
    if zoo.kind != "rnn":
        raise MetaTrainError(
            f"the zoo in {zoo.folder} holds no recurrent networks, but `{zoo.kind}`.\n"
            "  Make one with `python -m meta_train zoo rnn`."
        )
    if zoo.options["task"] == "digits":
        return Digits(int(zoo.options["tile"]))
    spoken = languages(*zoo.options["surplus"])
    return Words(Corpus.of(spoken, int(zoo.options["longest"])).tokens.shape[-1])
