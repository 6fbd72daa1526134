"""What is predicted of a network: a column of its zoo, as classes or as a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from meta_train.errors import MetaTrainError
from meta_train.reading.scores import ACCURACY, R2, SQUARED_ERROR, TAU, Score
from meta_train.zoo.store import Zoo

Loss: TypeAlias = Literal["auto", "cross_entropy", "bce", "mse"]

GAP = ("train_accuracy", "accuracy")
"""Columns whose difference is the target `gap`, where the zoo has no such column."""


@dataclass(frozen=True, eq=False)
class Target:
    """A property of the networks of a zoo.

    Args:
        name: of the column.
        values: classes (int64) or numbers (float32) of all snapshots, `(snapshots,)`.
        classes: their names; none for numbers.
        loss: `cross_entropy` of classes; `bce` (binary cross entropy, of numbers from 0 to 1) or
            `mse` (mean squared error in units of the standard deviation).
        mean: of the training split; 0 for classes.
        std: of the training split; 1 for classes.
    """

    name: str
    values: Tensor
    classes: tuple[str, ...]
    loss: Loss
    mean: float = 0.0
    std: float = 1.0

    @property
    def outputs(self) -> int:
        """Number of outputs that a network needs to predict it."""
        return len(self.classes) or 1

    @property
    def scores(self) -> tuple[Score, ...]:
        """How predictions are measured; the best state is chosen by the first."""
        return (ACCURACY,) if self.classes else (TAU, R2, SQUARED_ERROR)

    def training_loss(self, outputs: Tensor, index: Tensor) -> Tensor:
        """Loss of outputs `(networks, outputs)` for the snapshots of these numbers."""
        true = self.values.to(outputs.device)[index]
        if self.loss == "cross_entropy":
            return cross_entropy(outputs, true)
        if self.loss == "bce":
            return binary_cross_entropy_with_logits(outputs[:, 0], true.to(outputs))
        return mse_loss(outputs[:, 0], ((true - self.mean) / self.std).to(outputs))

    def predicted(self, outputs: Tensor) -> Tensor:
        """Classes or numbers `(networks,)` of outputs `(networks, outputs)`, on the CPU."""
        outputs = outputs.detach().cpu()
        if self.loss == "cross_entropy":
            return outputs.argmax(1)
        first = outputs[:, 0]
        return first.sigmoid() if self.loss == "bce" else first * self.std + self.mean


def target_of(zoo: Zoo, name: str, loss: Loss = "auto") -> Target:
    """Find what is to be predicted.

    Args:
        zoo: of the networks.
        name: a column, or `gap` for the accuracy on training data minus that on test data.
        loss: `auto` is `cross_entropy` of labels, `bce` of numbers from 0 to 1, `mse` of others.

    Raises:
        MetaTrainError: if there is no such column, it is the same everywhere or not finite, or the
            loss does not fit.
    """
    values = _column(zoo, name)
    classes = _classes(zoo, name, values)
    train = values[zoo.split("train")].double()
    if not values.double().isfinite().all():
        raise MetaTrainError(
            f"cannot predict `{name}`: it is not known of each network of the zoo.\n"
            f"  Use another target: {', '.join(_names(zoo))}."
        )
    if len(torch.unique(train)) < 2:
        raise MetaTrainError(
            f"cannot predict `{name}`: it is the same of all networks to train on.\n"
            f"  Use another target: {', '.join(_names(zoo))}."
        )
    bounded = bool(((values >= 0) & (values <= 1)).all())
    found = loss if loss != "auto" else "cross_entropy" if classes else "bce" if bounded else "mse"
    if (found == "cross_entropy") != bool(classes) or (found == "bce" and not bounded):
        raise MetaTrainError(
            f"the loss `{loss}` does not fit the target `{name}`.\n  Use `cross_entropy` for "
            "labels, `bce` for numbers from 0 to 1, `mse` for numbers; or `auto`."
        )
    if classes:
        return Target(name, values.long(), classes, found)
    return Target(name, values.float(), (), found, float(train.mean()), float(train.std()))


def _column(zoo: Zoo, name: str) -> Tensor:
    if name == "gap" and name not in zoo.columns and set(GAP) <= set(zoo.columns):
        first, second = (zoo.columns[column].double() for column in GAP)
        return first - second
    if name not in _names(zoo):
        raise MetaTrainError(
            f"there is no target `{name}` in this zoo.\n  Use one of: {', '.join(_names(zoo))}."
        )
    return zoo.columns[name]


def _classes(zoo: Zoo, name: str, values: Tensor) -> tuple[str, ...]:
    if name in zoo.categories or name != "class":
        return tuple(zoo.categories.get(name, ()))
    return tuple(map(str, range(int(values.max()) + 1)))


def _names(zoo: Zoo) -> Sequence[str]:
    made = {"gap"} if set(GAP) <= set(zoo.columns) else set()
    return sorted(set(zoo.columns) - {"split"} | made)
