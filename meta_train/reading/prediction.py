"""Predictions of a property of networks: by a network that reads them, and without reading them."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from meta_train.reading.augmentation import Augmentation
from meta_train.reading.blind import by_hyperparameters, constant
from meta_train.reading.fit import SPLITS, Reading
from meta_train.reading.results import Result
from meta_train.reading.targets import Target
from meta_train.zoo.store import Zoo
from ngopt.encoders.networks import Networks

AT_ONCE = 256
"""Networks that are read at once where nothing is learned."""

EXAMPLES = 512
"""Networks of the training split that encoders are built from."""


class Prediction(Reading):
    """Predict a property of the networks of a zoo.

    Args:
        zoo: of the networks, on the device of the module that learns.
        target: what to predict.
        augmentation: changes networks in training.
    """

    def __init__(self, zoo: Zoo, target: Target, augmentation: Augmentation) -> None:
        augmentation.check(zoo.stacks)
        self.zoo, self.augmentation = zoo, augmentation
        self.truth = target.values.cpu()
        self.target = replace(target, values=target.values.to(zoo.places.device))
        self.train = zoo.split("train")
        self.score, self.examples = target.scores[0], len(self.train)

    def loss(self, module: nn.Module, index: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of a batch."""
        snapshots = self.train[index]
        networks = self.augmentation(self.zoo.networks(snapshots), generator)
        return self.target.training_loss(module(networks), snapshots)

    def evaluate(self, module: nn.Module, split: str) -> dict[str, float]:
        """Scores on a split."""
        true = self.truth[self.zoo.split(split).cpu()]
        return scores(self.target, self.predict(module, split), true)

    @torch.no_grad()
    def predict(self, module: nn.Module, split: str) -> Tensor:
        """Predictions for a split, `(snapshots,)`, on the CPU."""
        parts = self.zoo.split(split).split(AT_ONCE)  # type: ignore[no-untyped-call]
        return torch.cat([self.target.predicted(module(self.zoo.networks(p))) for p in parts])


def scores(target: Target, predicted: Tensor, true: Tensor) -> dict[str, float]:
    """All scores of predictions, by name."""
    return {score.name: score.of(predicted, true) for score in target.scores}


def examples(zoo: Zoo) -> Networks:
    """Networks of the training split, for encoders to be built from."""
    return zoo.networks(zoo.split("train")[:EXAMPLES])


def baselines(zoo: Zoo, target: Target) -> Iterator[Result]:
    """What needs no weights: a constant, and hyper-parameters alone where there are some."""
    named = {"constant": constant(target, zoo.split("train"))}
    by_choice = by_hyperparameters(zoo, target, seed=0)
    if by_choice is not None:
        named["hyper-parameters"] = by_choice
    for name, predicted in named.items():
        parts = {split: predicted[zoo.split(split)] for split in SPLITS}
        entry = {
            split: scores(target, part, target.values[zoo.split(split)])
            for split, part in parts.items()
        }
        plain = {split: part.tolist() for split, part in parts.items()}
        yield Result(name, 0, plain, [{"step": 0, "epoch": 0.0, **entry}], baseline=True)
