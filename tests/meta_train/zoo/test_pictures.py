import pytest
import torch

from meta_train.data.images import digits
from meta_train.errors import MetaTrainError
from meta_train.zoo.pictures import pictures, split_counts, split_of_runs


def test_images_are_bytes_from_black_to_white(tmp_path):
    raw, bytes_of = digits(tmp_path), pictures("digits")
    assert bytes_of.training.dtype == bytes_of.test.dtype == torch.uint8
    assert (int(bytes_of.training.min()), int(bytes_of.training.max())) == (0, 255)
    torch.testing.assert_close(bytes_of.test / 255, raw.test / 16, rtol=0, atol=1 / 500)
    assert torch.equal(bytes_of.training_labels, raw.training_labels)


def test_runs_are_split_by_shares():
    split = split_of_runs(200, 0.1, 0.3, torch.Generator().manual_seed(0))
    assert split.bincount().tolist() == [120, 20, 60]
    assert split[:120].unique().tolist() == [0, 1, 2]
    again = split_of_runs(200, 0.1, 0.3, torch.Generator().manual_seed(0))
    other = split_of_runs(200, 0.1, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(split, again)
    assert not torch.equal(split, other)


@pytest.mark.parametrize(("runs", "validation", "test"), [(4, 0.1, 0.3), (20, 0.5, 0.5), (9, 0, 1)])
def test_no_split_is_empty(runs, validation, test):
    with pytest.raises(MetaTrainError, match=f"{runs} runs cannot be split"):
        split_counts(runs, validation, test)
