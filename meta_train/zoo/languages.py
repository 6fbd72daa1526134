"""Formal languages a^n b^(n+m1) c^(n+m2) d^(n+m3): words, batches of them, and who speaks them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from meta_train.errors import MetaTrainError
from ngopt.encoders.recurrent import LSTMs

LETTERS = 4
BEGIN, END = LETTERS, LETTERS + 1
TOKENS = LETTERS + 2
"""Letters a to d, the beginning of a word, and its end."""


@dataclass(frozen=True)
class Language:
    """The words a^n b^(n+m1) c^(n+m2) d^(n+m3), for n from 0 or, where m is below 0, from -m on.

    Args:
        surplus: m1, m2 and m3: how many more b, c and d there are than a.
    """

    surplus: tuple[int, int, int]

    @property
    def least(self) -> int:
        """The smallest number of a."""
        return max(0, -min(self.surplus))

    def word(self, n: int) -> Tensor:
        """The word with `n` times a, as numbers of letters, `(letters,)`."""
        counts = torch.tensor([n, *(n + m for m in self.surplus)])
        return torch.arange(LETTERS).repeat_interleave(counts)

    def words(self, most: int) -> list[Tensor]:
        """All words with up to `most` times a."""
        return [self.word(n) for n in range(self.least, most + 1)]

    def has(self, tokens: Tensor) -> Tensor:
        """Whether sequences are words of this language: right counts, in order, and an end.

        Args:
            tokens: letters up to the first :data:`END`; what follows it is not read,
                `(..., length)`.

        Returns:
            Booleans `(...)`; False where there is no end.
        """
        inside = before_end(tokens)
        letters = torch.where(inside, tokens, 0)
        ordered = (letters[..., 1:] >= letters[..., :-1]) | ~inside[..., 1:]
        proper = ((tokens < LETTERS) | ~inside).all(-1) & ~inside.all(-1)
        counts = torch.stack(
            [((tokens == letter) & inside).sum(-1) for letter in range(LETTERS)], -1
        )
        wanted = torch.tensor([0, *self.surplus], device=tokens.device)
        counted = (counts - counts[..., :1] == wanted).all(-1)
        return proper & counted & ordered.all(-1)


def before_end(tokens: Tensor) -> Tensor:
    """Which places of sequences, `(..., length)`, are before the first :data:`END`; booleans."""
    return (tokens == END).int().cumsum(-1) == 0


def languages(least: int, largest: int) -> list[Language]:
    """All languages whose surpluses are from `least` to `largest`, both included."""
    surpluses = range(least, largest + 1)
    return [Language(m) for m in product(surpluses, surpluses, surpluses)]


@dataclass(frozen=True)
class Corpus:
    """Words of several languages, as sequences of one length, padded with :data:`END`.

    Args:
        tokens: what is to be predicted: words, each followed by one :data:`END` or more,
            `(languages, words, length)`.
        words: number of words of each language, `(languages,)`; the further rows of `tokens` hold
            only ends and are never drawn.
    """

    tokens: Tensor
    words: Tensor

    @classmethod
    def of(cls, spoken: Sequence[Language], most: int) -> "Corpus":
        """Collect all words with up to `most` times a; the longest has room for its end.

        Raises:
            MetaTrainError: if a language has no such word.
        """
        listed = [language.words(most) for language in spoken]
        silent = [one.surplus for one, words in zip(spoken, listed, strict=True) if not words]
        if silent:
            raise MetaTrainError(
                f"the language with surpluses {silent[0]} has no word with up to {most} times a."
                f"\n  Use longest={Language(silent[0]).least} or more, or larger surpluses."
            )
        length = 1 + max(len(word) for words in listed for word in words)
        tokens = torch.full((len(spoken), max(map(len, listed)), length), END)
        for row, words in zip(tokens, listed, strict=True):
            for place, word in zip(row, words, strict=False):
                place[: len(word)] = word
        return cls(tokens, torch.tensor([len(words) for words in listed]))

    def shares(self, chosen: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Draw a batch of words for each of the chosen languages, and count how often each came.

        A language has few words, so the loss of a batch is summed over words with these shares, and
        equals that of the batch itself.

        Args:
            chosen: numbers of languages, `(networks,)`.
            batch: number of words.
            generator: draws them.

        Returns:
            `(networks, words)`; rows add up to 1.
        """
        drawn = torch.rand(len(chosen), batch, generator=generator)
        drawn = (drawn * self.words[chosen, None]).long()
        counts = torch.zeros(len(chosen), self.tokens.shape[1])
        return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=counts.dtype)) / batch


def one_hot(tokens: Tensor) -> Tensor:
    """What a network reads: one of :data:`TOKENS` numbers is 1, `(..., TOKENS)`."""
    return torch.nn.functional.one_hot(tokens, TOKENS).float()


def read(tokens: Tensor) -> Tensor:
    """What is read as sequences are predicted: the beginning, then all but the last token.

    Args:
        tokens: to be predicted, `(..., length)`.
    """
    begin = torch.full_like(tokens[..., :1], BEGIN)
    return torch.cat([begin, tokens[..., :-1]], -1)


@torch.no_grad()
def speak(
    networks: LSTMs, sequences: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Let networks write sequences: each token is drawn from what they predict.

    Args:
        networks: that read and predict :data:`TOKENS` tokens.
        sequences: number of sequences of each network.
        length: of a sequence.
        generator: draws the tokens.

    Returns:
        Tokens `(networks, sequences, length)`, and the predictions they were drawn from, as
        logarithms of probabilities `(networks, sequences, length, TOKENS)`.
    """
    state = networks.begin(sequences)
    shape = (len(networks), sequences)
    token = torch.full(shape, BEGIN, device=networks.bias.device)
    tokens, predictions = [], []
    for _ in range(length):
        answers, state = networks.step(one_hot(token).to(networks.bias), state)
        predicted = answers.log_softmax(-1)
        place = torch.rand(*shape, 1, generator=generator, device=generator.device).to(predicted)
        # Rounding may leave the last sum below 1.
        token = (predicted.exp().cumsum(-1) < place).sum(-1).clamp(max=TOKENS - 1)
        tokens.append(token)
        predictions.append(predicted)
    return torch.stack(tokens, 2), torch.stack(predictions, 2)
