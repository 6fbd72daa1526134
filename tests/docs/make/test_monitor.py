import pytest
import torch

from docs.make import board, monitor
from meta_train.data.dataset import Dataset
from tests.monitor.monitored import events_of


def test_both_runs_are_watched(tmp_path):
    training = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    monitor.train(Dataset("made up", {"train": training}, 10), tmp_path, 6)
    first, second = (events_of(tmp_path / name) for name in ("MatrixGNN", "AdamW"))
    for tag in ("1 training/loss", "1 training/accuracy", "2 optimizer/update_norm"):
        assert [point.step for point in first.Scalars(tag)] == [0, 5]
        assert [point.step for point in second.Scalars(tag)] == [0, 5]
    losses = [run.Scalars("1 training/loss")[0].value for run in (first, second)]
    assert losses[0] == losses[1]  # the same model and the same batch


def test_the_picture_is_taken_of_the_runs(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(monitor, "images", lambda *_: None)
    monkeypatch.setattr(monitor, "train", lambda data, folder, steps: taken.append(folder))
    monkeypatch.setattr(board, "take", lambda folder, out: taken.append(out))
    monitor.make([], tmp_path / "monitor.png")
    assert taken[1] == tmp_path / "monitor.png"


def test_it_takes_no_arguments():
    with pytest.raises(SystemExit, match="too much"):
        monitor.make(["runs"])
