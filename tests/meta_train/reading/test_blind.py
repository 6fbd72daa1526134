"""Baselines that read no weights."""

import pytest
import torch

from meta_train.reading.blind import by_hyperparameters, constant, hyperparameters
from meta_train.reading.scores import TAU
from meta_train.reading.targets import target_of
from tests.meta_train.reading.tiny import with_columns


def cnn_like(zoo):
    lr = torch.rand(60)
    return with_columns(
        zoo,
        learning_rate=lr,
        epoch=torch.arange(60) % 3,
        dropout=torch.zeros(60),
        train_accuracy=lr,
        test_loss=lr,
        accuracy=lr.square(),
    )


def test_a_constant_is_that_of_the_training_split(zoo):
    accuracy = torch.rand(60)
    accuracy[zoo.split("test")] = 1.0
    target = target_of(with_columns(zoo, accuracy=accuracy), "accuracy")
    train = zoo.split("train")
    (value,) = constant(target, train).unique().tolist()
    assert value == pytest.approx(float(accuracy[train].mean()))
    classes = target_of(zoo, "class")
    counts = classes.values[train].bincount()
    assert counts[constant(classes, train)[0]] == counts.max()


def test_hyperparameters_are_what_was_chosen_and_differs(zoo):
    zoo = cnn_like(zoo)
    assert hyperparameters(zoo, target_of(zoo, "accuracy")) == ("epoch", "learning_rate")


def test_trees_predict_by_hyperparameters(zoo):
    zoo = cnn_like(zoo)
    target, test = target_of(zoo, "accuracy"), zoo.split("test")
    predicted = by_hyperparameters(zoo, target, seed=0, count=50)
    assert TAU.of(predicted[test], target.values[test]) > 0.6


def test_test_values_play_no_part(zoo):
    zoo = cnn_like(zoo)
    accuracy = zoo.columns["accuracy"].clone()
    accuracy[zoo.split("test")] = torch.rand(18)
    other = with_columns(zoo, accuracy=accuracy)
    found = [
        by_hyperparameters(z, target_of(z, "accuracy"), seed=0, count=20) for z in (zoo, other)
    ]
    assert torch.equal(*found)


def test_images_have_no_hyperparameters(zoo):
    assert by_hyperparameters(zoo, target_of(zoo, "class"), seed=0) is None
