"""Data sets in memory."""

import torch

from meta_train.data.dataset import Dataset


def small(name="small"):
    numbers = torch.arange(10.0)
    splits = {
        "train": (numbers[:6].unsqueeze(1), numbers[:6]),
        "held_out": (numbers[6:8].unsqueeze(1), numbers[6:8]),
        "test": (numbers[8:].unsqueeze(1), numbers[8:]),
    }
    return Dataset(name, splits, classes=10)


def test_samples_belong_together_and_to_the_split():
    inputs, targets = small().sample(4, 50, torch.Generator().manual_seed(0), "train")
    assert inputs.shape == (4, 50, 1)
    assert targets.shape == (4, 50)
    assert torch.equal(inputs[..., 0], targets)
    assert set(targets.flatten().tolist()) == set(range(6))


def test_runs_see_different_samples():
    _, targets = small().sample(2, 50, torch.Generator().manual_seed(0), "train")
    assert not torch.equal(targets[0], targets[1])


def test_samples_follow_from_the_generator():
    def draw(seed):
        return small().sample(2, 50, torch.Generator().manual_seed(seed), "train")[1]

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_a_device_is_copied_to_once():
    dataset = small()
    there = dataset.to(torch.device("meta"))
    assert there is dataset.to(torch.device("meta"))
    assert (there.name, there.classes) == (dataset.name, dataset.classes)
    for split, tensors in dataset.splits.items():
        for old, new in zip(tensors, there.splits[split], strict=True):
            assert new.is_meta
            assert (new.shape, new.dtype) == (old.shape, old.dtype)


def test_a_copy_is_equal():
    dataset = small()
    there = dataset.to(torch.device("cpu"))
    for split, tensors in dataset.splits.items():
        assert all(map(torch.equal, tensors, there.splits[split]))


def test_overlapping_windows_overlap_in_the_copy():
    windows = torch.arange(1000).unfold(0, 100, 1)
    dataset = Dataset("windows", {"train": (windows,)})
    for device in ("cpu", "meta"):
        (there,) = dataset.to(torch.device(device)).splits["train"]
        assert there.shape == windows.shape
        assert there.untyped_storage().nbytes() == 8000
