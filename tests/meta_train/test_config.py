import pytest

from meta_train.config import Config
from meta_train.errors import MetaTrainError
from meta_train.presets import PRESETS


@pytest.mark.parametrize("name", ["steps", "stacks", "problems", "truncation", "keep"])
def test_counts_are_at_least_one(name):
    with pytest.raises(MetaTrainError, match=f"{name}=0"):
        Config(**{name: 0})


def test_there_is_a_family_and_noise():
    with pytest.raises(MetaTrainError, match=r"families=\(\)"):
        Config(families=())
    with pytest.raises(MetaTrainError, match="sigma > 0"):
        Config(sigma=0.0)


def test_without_arguments_it_is_the_preset_default():
    assert Config() == PRESETS["default"]
