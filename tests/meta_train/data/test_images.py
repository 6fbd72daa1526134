"""Image data sets: splits, sizes, the embedded default."""

import itertools

import pytest
import torch
from sklearn.datasets import load_digits

from meta_train.data.images import IMAGES, digits, images
from meta_train.errors import MetaTrainError
from meta_train.tasks.task import SPLITS
from tests.meta_train.data.original_files import write_cifar10, write_mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    return tmp_path


def numbers(dataset, split):
    """Pixel values before standardisation, up to a positive factor and a shift."""
    return dataset.splits[split][0][:, 0, 0, 0].tolist()


def test_images_are_split_once_for_all(folder):
    write_mnist(folder, "MNIST", training=30, test=10)
    dataset = images("mnist", 28)
    assert {split: len(dataset.splits[split][1]) for split in SPLITS} == {
        "train": 20,
        "held_out": 10,
        "test": 10,
    }
    training = numbers(dataset, "train") + numbers(dataset, "held_out")
    assert len(set(training)) == 30
    assert sorted(training)[:10] == numbers(dataset, "test")
    assert training != sorted(training)
    assert dataset.classes == 10
    labels = torch.cat([dataset.splits["train"][1], dataset.splits["held_out"][1]])
    order = torch.tensor(training).argsort()
    assert labels[order].tolist() == [i % 10 for i in range(30)]


def test_no_more_than_a_few_thousand_are_held_out(folder, monkeypatch):
    monkeypatch.setattr("meta_train.data.images.HELD_OUT", 3)
    write_mnist(folder, "MNIST", training=30, test=10)
    assert len(images("mnist", 28).splits["held_out"][0]) == 3


def test_each_channel_is_standardised(folder, monkeypatch):
    write_cifar10(folder, monkeypatch, each=20)
    dataset = images("cifar10", 16)
    pixels = dataset.splits["train"][0].double()
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.ones(3).double(), atol=1e-6, rtol=0)
    held_out = dataset.splits["held_out"][0]
    assert held_out.mean().abs() > 1e-6


@pytest.mark.parametrize("chunk", [7, 4096])
def test_smaller_images_are_averages(folder, monkeypatch, chunk):
    monkeypatch.setattr("meta_train.data.images.CHUNK", chunk)
    fine = images("digits", 8).splits["test"][0]
    coarse = images("digits", 4).splits["test"][0]
    means = fine.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    # They are standardised anew, so they agree up to one factor and one shift.
    rest = torch.stack([means.flatten(), torch.ones(means.numel())], 1)
    fit = torch.linalg.lstsq(rest, coarse.flatten()[:, None]).solution
    torch.testing.assert_close((rest @ fit)[:, 0], coarse.flatten(), atol=1e-4, rtol=0)
    assert fit[0] > 1


@pytest.mark.parametrize("size", [0, 9])
def test_a_size_that_cannot_be_had(size):
    with pytest.raises(MetaTrainError, match=rf"size={size}: they have 8 x 8.*\n.* from 1 to 8"):
        images("digits", size)


def test_an_unknown_name():
    with pytest.raises(MetaTrainError, match=r"no image data set `digit`.\n.*cifar10, digits"):
        images("digit", 8)


def test_images_are_loaded_once_for_each_folder(folder, monkeypatch):
    write_mnist(folder, "MNIST")
    assert images("mnist", 8) is images("mnist", 8)
    monkeypatch.setenv("NGOPT_DATA", str(folder / "empty"))
    with pytest.raises(MetaTrainError, match="no file"):
        images("mnist", 8)


def test_splits_of_the_digits_are_disjoint():
    rows = {split: set(map(tuple, part[0].flatten(1).tolist())) for split, part in splits("digits")}
    assert sum(map(len, rows.values())) == 1797
    for first, second in itertools.combinations(SPLITS, 2):
        assert not rows[first] & rows[second]


def splits(name):
    return images(name, 8).splits.items()


def test_every_digit_is_there_once_with_its_label(tmp_path):
    raw = digits(tmp_path)
    bunch = load_digits()
    images = torch.cat([raw.training, raw.test]).flatten(1)
    found = torch.cat([images, torch.cat([raw.training_labels, raw.test_labels])[:, None]], 1)
    expected = torch.cat([torch.tensor(bunch.data), torch.tensor(bunch.target)[:, None]], 1)
    assert sorted(found.tolist()) == sorted(expected.tolist())
    assert len(raw.test) == 300


def test_they_are_mixed_and_always_alike(tmp_path):
    first, second = digits(tmp_path), digits(tmp_path)
    assert torch.equal(first.training, second.training)
    original = torch.tensor(load_digits().images, dtype=torch.float32)
    assert not torch.equal(first.training[:, 0], original[:1497])
    assert set(first.test_labels.tolist()) == set(range(10))


@pytest.mark.parametrize("name", IMAGES)
def test_every_loader_gives_images_and_labels(name, tmp_path, monkeypatch):
    write_mnist(tmp_path, "MNIST")
    write_mnist(tmp_path, "FashionMNIST")
    write_cifar10(tmp_path, monkeypatch)
    raw = IMAGES[name](tmp_path)
    for pixels, labels in ((raw.training, raw.training_labels), (raw.test, raw.test_labels)):
        assert pixels.dim() == 4
        assert pixels.shape[-1] == pixels.shape[-2]
        assert labels.shape == pixels.shape[:1]
        assert labels.dtype == torch.int64
        assert labels.min() >= 0
        assert labels.max() < raw.classes
    assert raw.training.shape[1:] == raw.test.shape[1:]
