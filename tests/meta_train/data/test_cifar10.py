import hashlib
import os
import pickle

import numpy
import pytest

from meta_train.data.cifar10 import MD5, cifar10
from meta_train.errors import MetaTrainError
from tests.meta_train.data.original_files import write_cifar10


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_batches_are_joined_in_order(tmp_path, monkeypatch):
    written = write_cifar10(tmp_path, monkeypatch)
    raw = cifar10(tmp_path)
    *training, test = written.values()
    pixels = numpy.concatenate([pixels for pixels, _ in training])
    assert raw.training.shape == (20, 3, 32, 32)
    assert numpy.array_equal(raw.training.flatten(1).numpy(), pixels)
    assert raw.training_labels.tolist() == [label for _, labels in training for label in labels]
    assert numpy.array_equal(raw.test.flatten(1).numpy(), test[0])
    assert raw.test_labels.tolist() == test[1]


def test_another_file_is_not_opened(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    trace = tmp_path / "trace"
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Harmful(trace)))
    with pytest.raises(MetaTrainError, match=r"data_batch_3 is not the original.*\n.*not opened"):
        cifar10(tmp_path)
    assert not trace.exists()


def test_even_a_file_of_the_right_sum_cannot_run_code(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    trace = tmp_path / "trace"
    data = pickle.dumps(Harmful(trace))
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(data)
    monkeypatch.setitem(MD5, "data_batch_1", hashlib.md5(data).hexdigest())
    with pytest.raises(pickle.UnpicklingError, match="mkdir is no part of an array"):
        cifar10(tmp_path)
    assert not trace.exists()


def test_a_missing_batch_is_named_with_its_source(tmp_path):
    with pytest.raises(MetaTrainError, match=r"cifar-10-batches-py/data_batch_1` from https"):
        cifar10(tmp_path)
