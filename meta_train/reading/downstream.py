"""What the encodings that an emulator was instructed with tell of networks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from meta_train.reading.emulator import mean_of
from meta_train.reading.fit import SPLITS, Reading
from meta_train.reading.prediction import AT_ONCE, baselines
from meta_train.reading.results import Result
from meta_train.reading.scores import Score
from meta_train.reading.targets import Target, target_of
from meta_train.tasks.model_task import fresh
from meta_train.zoo.store import Zoo
from ngopt.encoders.networks import Networks

SURPLUSES = ("m1", "m2", "m3")

HIDDEN = 64
"""Width of the hidden layer of a head."""


class Property(ABC):
    """A property of the networks of a zoo.

    Attributes:
        name: of the property.
        outputs: numbers that a head needs for it.
        scores: how answers are measured; the best state is chosen by the first.
        truth: what answers are compared with, `(snapshots,)`.
    """

    name: str
    outputs: int
    scores: tuple[Score, ...]
    truth: Tensor

    @abstractmethod
    def loss(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """Training loss of outputs `(networks, outputs)` for these snapshots."""

    @abstractmethod
    def answers(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """What is measured, `(networks,)` on the CPU, of outputs for these snapshots."""

    @abstractmethod
    def baselines(self) -> list[Result]:
        """Answers without reading networks."""


class Column(Property):
    """A column of the zoo.

    Args:
        zoo: of the networks.
        name: of the column.
    """

    def __init__(self, zoo: Zoo, name: str) -> None:
        self.zoo, self.target = zoo, target_of(zoo, name)
        self.name, self.outputs, self.scores = name, self.target.outputs, self.target.scores
        self.truth = self.target.values

    def loss(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """Cross-entropy of labels, else an error of numbers; see :class:`Target`."""
        return self.target.training_loss(outputs, snapshots.to(self.truth.device))

    def answers(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """Labels or numbers."""
        return self.target.predicted(outputs)

    def baselines(self) -> list[Result]:
        """A constant; for numbers also what the step and other known columns tell."""
        known = list(baselines(self.zoo, self.target))
        return known[:1] if self.target.classes else known


class SpokenLanguage(Property):
    """The language of each network: its three surpluses, each of which is a label.

    Answers are shares of the three that are right.

    Args:
        zoo: of networks on formal languages.
    """

    name = "language"

    def __init__(self, zoo: Zoo) -> None:
        self.zoo = zoo
        self.targets: list[Target] = [target_of(zoo, name) for name in SURPLUSES]
        self.outputs = sum(target.outputs for target in self.targets)
        self.scores = (mean_of("surpluses right", True),)
        self.truth = torch.ones(len(zoo))

    def loss(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """Sum of three cross-entropies."""
        parts = outputs.split([t.outputs for t in self.targets], 1)  # type: ignore[no-untyped-call]
        losses = [
            cross_entropy(part, target.values.to(outputs.device)[snapshots])
            for part, target in zip(parts, self.targets, strict=True)
        ]
        return torch.stack(losses).sum()

    def answers(self, outputs: Tensor, snapshots: Tensor) -> Tensor:
        """Shares of surpluses that are right."""
        parts = outputs.split([t.outputs for t in self.targets], 1)  # type: ignore[no-untyped-call]
        predicted = [target.predicted(p) for p, target in zip(parts, self.targets, strict=True)]
        return self._shares(predicted, snapshots.cpu())

    def baselines(self) -> list[Result]:
        """The commonest of each surplus."""
        train = self.zoo.split("train")
        common = [target.values[train].mode().values for target in self.targets]
        found = {}
        for split in SPLITS:
            index = self.zoo.split(split).cpu()
            found[split] = self._shares([c.expand(len(index)) for c in common], index)
        (score,) = self.scores
        entry = {split: {score.name: float(each.mean())} for split, each in found.items()}
        plain = {split: each.tolist() for split, each in found.items()}
        return [Result("constant", 0, plain, [{"step": 0, "epoch": 0.0, **entry}], baseline=True)]

    def _shares(self, predicted: Sequence[Tensor], snapshots: Tensor) -> Tensor:
        right = [
            (p.cpu() == target.values.cpu()[snapshots]).float()
            for p, target in zip(predicted, self.targets, strict=True)
        ]
        return torch.stack(right).mean(0)


def property_of(zoo: Zoo, name: str) -> Property:
    """Find a property: `language`, or a column of the zoo."""
    return SpokenLanguage(zoo) if name == "language" else Column(zoo, name)


class Head(nn.Module):
    """Tells a property from encodings.

    Args:
        encoder: maps networks to encodings, which go on learning; or None.
        encodings: of all snapshots, `(snapshots, width)`, where there is no encoder.
        width: of an encoding.
        outputs: numbers to tell.
        seed: of the first weights.
    """

    encodings: Tensor | None

    def __init__(
        self,
        encoder: nn.Module | None,
        encodings: Tensor | None,
        width: int,
        outputs: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        # What can be read again need not be in checkpoints.
        self.register_buffer("encodings", encodings, persistent=False)
        self.head = fresh(
            lambda: nn.Sequential(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs)),
            torch.Generator().manual_seed(seed),
        )

    def forward(self, networks: Networks | None, snapshots: Tensor) -> Tensor:
        """Tell the property of networks, which are these snapshots; `(networks, outputs)`."""
        if self.encoder is not None:
            encodings = self.encoder(networks)
        else:
            assert self.encodings is not None
            encodings = self.encodings[snapshots]
        outputs: Tensor = self.head(encodings)
        return outputs


class Telling(Reading):
    """Learn to tell a property of networks from encodings.

    Args:
        zoo: of the networks, on the device of the module.
        wanted: the property.
    """

    def __init__(self, zoo: Zoo, wanted: Property) -> None:
        self.zoo, self.wanted = zoo, wanted
        self.train = zoo.split("train")
        self.score, self.examples = wanted.scores[0], len(self.train)

    def loss(self, module: nn.Module, index: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of a batch."""
        snapshots = self.train[index]
        return self.wanted.loss(self._outputs(module, snapshots), snapshots)

    def evaluate(self, module: nn.Module, split: str) -> dict[str, float]:
        """Scores on a split."""
        true = self.wanted.truth.cpu()[self.zoo.split(split).cpu()]
        answers = self.predict(module, split)
        return {score.name: score.of(answers, true) for score in self.wanted.scores}

    @torch.no_grad()
    def predict(self, module: nn.Module, split: str) -> Tensor:
        """Answers for a split, `(snapshots,)`, on the CPU."""
        parts = self.zoo.split(split).split(AT_ONCE)  # type: ignore[no-untyped-call]
        return torch.cat([self.wanted.answers(self._outputs(module, p), p) for p in parts])

    def _outputs(self, module: nn.Module, snapshots: Tensor) -> Tensor:
        networks = None if module.encoder is None else self.zoo.networks(snapshots)
        outputs: Tensor = module(networks, snapshots)
        return outputs
