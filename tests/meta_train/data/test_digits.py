import torch
from sklearn.datasets import load_digits

from meta_train.data.digits import digits


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
