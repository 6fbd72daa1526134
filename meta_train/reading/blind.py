"""Predictions that read no weights: a constant, and the hyper-parameters of the training."""

from collections.abc import Iterator

import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor

from meta_train.reading.scores import Score
from meta_train.reading.targets import Target
from meta_train.zoo.store import Zoo

NAMES = ("run", "split", "seed", "image")
"""Columns that name a network, and tell nothing that could hold for others."""

OUTCOMES = ("class", "accuracy", "loss", "gap", "psnr", "error", "diverged", "angle")
"""What columns are named after that are not chosen before training but come of it."""

FEWEST = 20
"""Snapshots in a leaf, and how many times more there should be in all."""

RATES, LEAVES = (0.03, 0.1), (7, 31)
"""Settings of the boosted trees, of which the best on the validation split is taken."""


def constant(target: Target, train: Tensor) -> Tensor:
    """Predict the same of every snapshot, `(snapshots,)`: the commonest class, or the mean.

    Args:
        target: what to predict.
        train: numbers of the snapshots to learn from.
    """
    known = target.values[train]
    value = known.mode().values if target.classes else known.mean()
    return value.expand(len(target.values)).clone()


def hyperparameters(zoo: Zoo, target: Target) -> tuple[str, ...]:
    """Columns that were chosen before or during training (such as the epoch), and that differ."""
    found = []
    for name, values in zoo.columns.items():
        words = set(name.split("_"))
        chosen = name not in NAMES and not words & set(OUTCOMES) and name != target.name
        known = values.double()[values.double().isfinite()]
        if chosen and len(torch.unique(known)) > 1:
            found.append(name)
    return tuple(sorted(found))


def by_hyperparameters(zoo: Zoo, target: Target, seed: int, count: int = 200) -> Tensor | None:
    """Predict of every snapshot by its hyper-parameters alone, with gradient-boosted trees.

    Args:
        zoo: of the snapshots.
        target: what to predict.
        seed: of the trees.
        count: number of trees.

    Returns:
        `(snapshots,)`; None if the zoo has no hyper-parameters.
    """
    names = hyperparameters(zoo, target)
    if not names:
        return None
    train, validation = zoo.split("train"), zoo.split("validation")
    features = torch.stack([zoo.columns[name].double() for name in names], 1)
    score: Score = target.scores[0]
    best: tuple[float, Tensor] | None = None
    labels = [name in zoo.categories for name in names]
    fewest = max(1, min(FEWEST, len(train) // FEWEST))
    for trees in _settings(target, labels, seed, count, fewest):
        trees.fit(features[train].numpy(), target.values[train].numpy())
        predicted = torch.as_tensor(trees.predict(features.numpy())).to(target.values.dtype)
        found = score.of(predicted[validation], target.values[validation])
        if best is None or score.better(found, best[0]):
            best = (found, predicted)
    assert best is not None
    return best[1]


def _settings(
    target: Target, labels: list[bool], seed: int, count: int, fewest: int
) -> Iterator[HistGradientBoostingClassifier | HistGradientBoostingRegressor]:
    kind = HistGradientBoostingClassifier if target.classes else HistGradientBoostingRegressor
    for rate in RATES:
        for leaves in LEAVES:
            yield kind(
                learning_rate=rate,
                max_iter=count,
                max_leaf_nodes=leaves,
                min_samples_leaf=fewest,
                categorical_features=labels,
                early_stopping=False,
                random_state=seed,
            )
