"""What can be predicted of the networks of a zoo."""

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.reading.scores import ACCURACY, TAU
from meta_train.reading.targets import target_of
from tests.meta_train.reading.tiny import with_columns


def test_labels_are_classes(zoo):
    target = target_of(zoo, "class")
    assert target.outputs == 10
    assert target.scores == (ACCURACY,)
    assert target.loss == "cross_entropy"
    assert torch.equal(target.values, zoo.columns["class"])


def test_numbers_from_0_to_1_are_learned_by_binary_cross_entropy(zoo):
    target = target_of(with_columns(zoo, accuracy=torch.rand(60)), "accuracy")
    assert (target.loss, target.scores[0], target.outputs) == ("bce", TAU, 1)
    outputs = torch.logit(target.values).unsqueeze(1)
    assert torch.allclose(target.predicted(outputs), target.values, atol=1e-6)


def test_other_numbers_are_learned_in_units_of_the_training_split(zoo):
    values = 5 + 3 * torch.randn(60)
    values[zoo.split("test")] += 1000  # which must not be looked at
    target = target_of(with_columns(zoo, speed=values), "speed")
    train = values[zoo.split("train")]
    assert target.mean == pytest.approx(float(train.mean()), abs=1e-4)
    assert target.std == pytest.approx(float(train.std()), abs=1e-4)
    outputs = ((values - target.mean) / target.std).unsqueeze(1)
    assert torch.allclose(target.predicted(outputs), values, atol=1e-3)
    index = torch.arange(60)
    assert target.training_loss(outputs, index) == pytest.approx(0, abs=1e-6)


def test_the_gap_is_accuracy_in_training_minus_that_in_test(zoo):
    train, test = torch.rand(60), torch.rand(60)
    target = target_of(with_columns(zoo, train_accuracy=train, accuracy=test), "gap")
    assert torch.allclose(target.values, train - test)
    assert target.loss == "mse"


def test_what_cannot_be_predicted_is_refused(zoo):
    with pytest.raises(MetaTrainError, match=r"there is no target `colour`.*\n.*class"):
        target_of(zoo, "colour")
    with pytest.raises(MetaTrainError, match="is the same of all networks"):
        target_of(with_columns(zoo, size=torch.ones(60)), "size")
    with pytest.raises(MetaTrainError, match="is not known of each network"):
        target_of(with_columns(zoo, size=torch.full((60,), torch.nan)), "size")
    with pytest.raises(MetaTrainError, match="the loss `mse` does not fit"):
        target_of(zoo, "class", "mse")
    with pytest.raises(MetaTrainError, match="the loss `bce` does not fit"):
        target_of(with_columns(zoo, speed=torch.arange(60.0)), "speed", "bce")
