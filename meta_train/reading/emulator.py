"""A network that does what a recurrent network does, given the encoding of that network."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize

from meta_train.errors import MetaTrainError
from meta_train.reading.behaviour import Behaviour, Observer
from meta_train.reading.fit import Reading
from meta_train.reading.scores import Resamples, Score
from meta_train.shared_files import write_tensors
from meta_train.tasks.model_task import fresh
from meta_train.zoo.store import Zoo, read_tensors
from ngopt.encoders.networks import Networks
from ngopt.encoders.recurrent import LSTMs

KEPT = "encoder.safetensors"
"""File of an encoder that has learned to instruct an emulator, and of its encodings."""

ROWS = 256
"""Number of networks that are scored at a time."""


def total_variation(answers: Tensor, true: Tensor) -> Tensor:
    """Half the sum of absolute differences of probabilities, from 0 to 1.

    Args:
        answers: logarithms of probabilities, `(..., outputs)`.
        true: the same of those to be met.
    """
    return (answers.exp() - true.exp()).abs().sum(-1) / 2


def reverse_kl(answers: Tensor, true: Tensor) -> Tensor:
    """Kullback-Leibler divergence of what is true from `answers`, in nats: mean over answers.

    Args:
        answers: logarithms of probabilities, `(..., outputs)`.
        true: the same of those to be met.
    """
    return (answers.exp() * (answers - true)).sum(-1)


class Emulator(nn.Module):
    """An LSTM that reads an encoding first, in place of the beginning of the sequence.

    Args:
        inputs: number of numbers that the emulated networks read in each step.
        outputs: number of classes that they answer.
        width: size of an encoding.
        units: of each layer.
        layers: how many.
        seed: of the first weights.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, units: int, layers: int, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.begin = fresh(lambda: nn.Linear(width, units), generator)
        self.read = fresh(lambda: nn.Linear(inputs, units), generator)
        self.lstm = fresh(lambda: nn.LSTM(units, units, layers, batch_first=True), generator)
        self.answer = fresh(lambda: nn.Linear(units, outputs), generator)

    def forward(self, encodings: Tensor, read: Tensor) -> Tensor:
        """Answer as each network would.

        Args:
            encodings: `(networks, width)`.
            read: what the networks read, `(networks, sequences, length, inputs)`; what stands first
                is passed over.

        Returns:
            Logarithms of probabilities, `(networks, sequences, length, outputs)`.
        """
        networks, sequences = read.shape[:2]
        first = self.begin(encodings)[:, None, None].expand(-1, sequences, -1, -1)
        x = torch.cat([first, self.read(read[:, :, 1:])], 2)
        hidden, _ = self.lstm(x.flatten(0, 1))
        answers: Tensor = self.answer(hidden).log_softmax(-1)
        return answers.view(networks, sequences, *answers.shape[1:])


class Embedding(nn.Module):
    """An encoder, whose encodings are mapped to vectors of length 1.

    Args:
        encoder: maps networks to `(networks, encoder.width)`.
        width: size of the vectors.
        seed: of the first weights of the map.
    """

    def __init__(self, encoder: nn.Module, width: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        inputs: Any = encoder.width
        generator = torch.Generator().manual_seed(seed)
        self.map = fresh(lambda: nn.Linear(inputs, width), generator)

    def forward(self, networks: Networks) -> Tensor:
        """Embed networks, `(networks, width)`."""
        return normalize(self.map(self.encoder(networks)), dim=-1)


class Emulation(nn.Module):
    """An encoder, and an emulator that it instructs.

    Args:
        encoder: maps networks to vectors.
        emulator: of such vectors.
    """

    def __init__(self, encoder: Embedding, emulator: Emulator) -> None:
        super().__init__()
        self.encoder, self.emulator = encoder, emulator

    def forward(self, networks: Networks, read: Tensor) -> Tensor:
        """Answer as each network would; see :class:`Emulator`."""
        answers: Tensor = self.emulator(self.encoder(networks), read)
        return answers


class Constant(nn.Module):
    """Encodes all networks alike: what an emulator can do that knows of none.

    Args:
        width: size of an encoding.
        seed: makes no difference.
    """

    def __init__(self, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.width = width
        self.encoding = nn.Parameter(torch.ones(width))

    def forward(self, networks: Networks) -> Tensor:
        """The same for each network, `(networks, width)`."""
        return self.encoding.expand(len(networks), -1)


def mean_of(name: str, higher: bool) -> Score:
    """Score that is the mean over snapshots of what was measured of each.

    Args:
        name: of what was measured.
        higher: whether higher is better.
    """

    def measure(each: Tensor, true: Tensor, resamples: Resamples) -> Tensor:
        return resamples.mean(each)

    return Score(name, higher, measure)


TOTAL_VARIATION, REVERSE_KL = mean_of("total variation", False), mean_of("reverse KL", False)


class Emulating(Reading):
    """Learn to do what each network does, measured by the total variation of its answers.

    Gradients of the encoder and of the emulator are shortened by themselves: those that come
    through the networks that are asked can be very long, and say nothing about the emulator's.

    Args:
        zoo: of the networks, on the device of the modules.
        observer: draws sequences for them and runs them.
        sequences: number of sequences of a network in each step.
        judged: number of sequences of a network that it is judged by.
    """

    score = TOTAL_VARIATION

    def __init__(self, zoo: Zoo, observer: Observer, sequences: int, judged: int) -> None:
        self.zoo, self.observer = zoo, observer
        self.sequences, self.judged = sequences, judged
        self.train = zoo.split("train")
        self.examples = len(self.train)

    def loss(self, module: nn.Module, index: Tensor, generator: torch.Generator) -> Tensor:
        """Mean total variation of answers to fresh sequences."""
        networks = self.zoo.networks(self.train[index])
        seen = self._watched(networks, self.sequences, generator, True)
        return seen.mean(total_variation(module(networks, seen.read), seen.answers)).mean()

    def parts(self, module: nn.Module) -> list[nn.Module]:
        """Encoder and emulator."""
        assert isinstance(module, Emulation)
        return [module.encoder, module.emulator]

    def evaluate(self, module: nn.Module, split: str) -> dict[str, float]:
        """Mean total variation and reverse KL of a split."""
        return {name: float(each.mean()) for name, each in self.measure(module, split).items()}

    @torch.no_grad()
    def measure(self, module: nn.Module, split: str) -> dict[str, Tensor]:
        """Total variation and reverse KL of each snapshot of a split, `(snapshots,)` each.

        The sequences are the same each time.
        """
        index = self.zoo.split(split)
        generator = torch.Generator(index.device).manual_seed(0)
        found: list[tuple[Tensor, Tensor]] = []
        for rows in index.split(ROWS):  # type: ignore[no-untyped-call]
            networks = self.zoo.networks(rows)
            seen = self._watched(networks, self.judged, generator, False)
            answers = module(networks, seen.read)
            found.append(
                (
                    seen.mean(total_variation(answers, seen.answers)),
                    seen.mean(reverse_kl(answers, seen.answers)),
                )
            )
        distances, divergences = zip(*found, strict=True)
        return {
            TOTAL_VARIATION.name: torch.cat(distances),
            REVERSE_KL.name: torch.cat(divergences),
        }

    def predict(self, module: nn.Module, split: str) -> Tensor:
        """Total variation of each snapshot of a split, `(snapshots,)`, on the CPU."""
        return self.measure(module, split)[TOTAL_VARIATION.name].cpu()

    @torch.no_grad()
    def keep(self, module: nn.Module, folder: Path) -> None:
        """Write the encoder's weights and the encodings of all snapshots; see :func:`read_kept`."""
        assert isinstance(module, Emulation)
        every = torch.arange(len(self.zoo)).split(ROWS)  # type: ignore[no-untyped-call]
        encodings = torch.cat([module.encoder(self.zoo.networks(rows)) for rows in every])
        tensors = {f"encoder.{name}": t for name, t in module.encoder.state_dict().items()}
        write_tensors(folder / KEPT, tensors | {"encodings": encodings}, {})

    def _watched(
        self, networks: Networks, sequences: int, generator: torch.Generator, train: bool
    ) -> Behaviour:
        (stack,) = networks
        return self.observer.watch(LSTMs.of(stack), sequences, generator, train)


def read_kept(folder: Path) -> tuple[dict[str, Tensor], Tensor]:
    """Read what :meth:`Emulating.keep` wrote: the encoder's weights, and encodings of a zoo.

    Raises:
        MetaTrainError: if it is missing or damaged.
    """
    try:
        tensors, _ = read_tensors(folder / KEPT)
        encodings = tensors.pop("encodings")
    except (SafetensorError, OSError, KeyError) as error:
        raise MetaTrainError(
            f"the encoder in {folder} cannot be read ({error}).\n"
            "  Remove that folder, and the same command trains it again."
        ) from error
    return {name.removeprefix("encoder."): t for name, t in tensors.items()}, encodings
