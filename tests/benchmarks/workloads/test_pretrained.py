import pytest
import torch
from torch import nn

from benchmarks.workloads import pretrained as module
from benchmarks.workloads.pretrained import pretrained


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path)


def test_each_seed_is_trained_once():
    trained = []

    def train(seed):
        trained.append(seed)
        torch.manual_seed(seed)
        return nn.Linear(2, 2)

    states = [pretrained("layer", seed, train) for seed in (1, 2, 1, 2)]
    assert trained == [1, 2]
    assert torch.equal(states[0]["weight"], states[2]["weight"])
    assert not torch.equal(states[0]["weight"], states[1]["weight"])


def test_training_that_fails_leaves_no_file(tmp_path):
    def train(seed):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pretrained("layer", 0, train)
    assert not list(tmp_path.iterdir())
