import pytest
import torch

from benchmarks.workloads import trained
from tests.benchmarks.workloads.toy import Toy, toy


@pytest.fixture(autouse=True)
def _shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "shelf", trained.Shelf(tmp_path))


def test_trained_models_are_trained_once():
    model = trained.trained(toy())
    assert not model[0].weight.equal(Toy(0).model[0].weight)

    def build(seed):
        training = Toy(seed)
        training.step = None  # would be called to train it again
        return training

    again = trained.trained(toy(build=build))
    assert again[0].weight.equal(model[0].weight)


def test_each_seed_has_a_model_of_its_own():
    models = [trained.trained(toy(), seed) for seed in (1, 2, 1)]
    weights = [model[0].weight for model in models]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_training_that_fails_leaves_no_model(tmp_path):
    def build(seed):
        training = Toy(seed)
        training.step = None
        return training

    with pytest.raises(TypeError):
        trained.trained(toy(build=build))
    assert not list(tmp_path.glob("*.pt"))
