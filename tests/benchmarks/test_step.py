import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import contestant, step
from benchmarks.contestant import Contestant
from benchmarks.step import CASES, CONTESTANTS, REFERENCE, Options, muon, other, run

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(contestant, "AT_LEAST", 0.0)


@linux
def test_figures_of_all_contestants_are_written(tmp_path):
    options = Options(
        models=("mlp",), contestants=("ngopt",), others=("torch.optim:SGD",), rounds=1
    )
    found = run(replace(options, out=tmp_path / "step"))
    adam, ours, _ = found
    assert [row.contestant for row in found] == [REFERENCE, "ngopt", "SGD"]
    assert adam.step_ratio == adam.whole_ratio == 1
    assert min(ours.step_ratio, ours.whole_ratio) > 0
    assert [round(row.state) for row in found] == [8, 15, 0]
    content = json.loads((tmp_path / "step.json").read_text())
    assert [row["contestant"] for row in content["found"]] == [row.contestant for row in found]
    assert "| SGD |" in (tmp_path / "step.md").read_text()
    assert (tmp_path / "step.png").stat().st_size > 10_000


def test_threads_are_as_before():
    with step.threads(1):
        assert torch.get_num_threads() == 1
        with step.threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1


def test_muon_leaves_no_parameter_out():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3))
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.ones(1, 1, 3, 3)).sum().backward()
    for optimizer in muon(model):
        optimizer.step()
    assert all((new != old).any() for new, old in zip(model.parameters(), before, strict=True))
    assert len(muon(nn.Linear(2, 2, bias=False))) == 1


def test_optimizers_of_other_packages_are_found():
    (optimizer,) = other("torch.optim:Adagrad")(nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.Adagrad)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
@pytest.mark.parametrize("optimizer", CONTESTANTS)
def test_every_contestant_steps_on_every_small_model(name, optimizer):
    torch.manual_seed(0)
    case = CASES[name]
    model = case.build()
    before = [weight.detach().clone() for weight in model.parameters()]
    Contestant(CONTESTANTS[optimizer], model, case.batch()[:2])
    # No gradient is exactly 0 everywhere, not even where its sum has to be.
    assert all((new != old).any() for new, old in zip(model.parameters(), before, strict=True))
