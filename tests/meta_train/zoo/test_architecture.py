import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.zoo.architecture import Architecture
from tests.meta_train.zoo.small_zoo import Perceptron


def test_it_builds_the_model_it_names_for_evaluation():
    module = Architecture("test_perceptron", {"width": 7}).build()
    assert isinstance(module, Perceptron)
    assert module.hidden.out_features == 7
    assert not module.training


def test_building_leaves_the_global_random_state_and_the_config_alone():
    before, config = torch.get_rng_state(), {"width": 3}
    architecture = Architecture("test_perceptron", config)
    first, second = architecture.build(), architecture.build()
    assert torch.equal(first.hidden.weight, second.hidden.weight)
    assert torch.equal(before, torch.get_rng_state())
    assert config == {"width": 3}


def test_its_graph_is_that_of_the_model():
    graph = Architecture("test_perceptron", {"width": 7}).trace()
    assert [space.size for space in graph.hidden] == [7]
    assert graph.unknown == ()


def test_an_unknown_model_is_named():
    with pytest.raises(MetaTrainError, match="no model of a zoo `nope`"):
        Architecture("nope", {}).build()
