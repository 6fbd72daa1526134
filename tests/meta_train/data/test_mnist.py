import gzip

import numpy
import pytest
import torch

from meta_train.data.mnist import fashion_mnist, mnist, read_idx
from meta_train.errors import MetaTrainError
from tests.meta_train.data.original_files import write_idx, write_mnist


@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), (0, 7)])
def test_reads_what_was_written(shape, tmp_path):
    array = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
    write_idx(tmp_path / "a.gz", array)
    assert torch.equal(read_idx(tmp_path / "a.gz"), torch.from_numpy(array))


def damaged(data):
    raw = gzip.decompress(data)
    return {
        "not gzipped": raw,
        "cut off": data[:-12],
        "too short": gzip.compress(raw[:-1]),
        "too long": gzip.compress(raw + b"\0"),
        "only a header": gzip.compress(raw[:3]),
        "no dimensions": gzip.compress(raw[:6]),
        "floats": gzip.compress(raw[:2] + b"\x0d" + raw[3:]),
        "bits flipped": data[:14] + bytes(255 - b for b in data[14:]),
    }


@pytest.mark.parametrize("how", damaged(gzip.compress(bytes(10))))
def test_a_damaged_file_is_refused(how, tmp_path):
    file = tmp_path / "a.gz"
    write_idx(file, numpy.random.default_rng(0).integers(0, 256, (4, 5)))
    file.write_bytes(damaged(file.read_bytes())[how])
    with pytest.raises(MetaTrainError, match=r"a\.gz is no complete .*\n.*again"):
        read_idx(file)


@pytest.mark.parametrize(("load", "name"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_images_keep_order_and_labels(load, name, tmp_path):
    write_mnist(tmp_path, name, training=12, test=5)
    raw = load(tmp_path)
    assert raw.training.shape == (12, 1, 28, 28)
    assert raw.training[:, 0, 3, 4].tolist() == list(range(12))
    assert raw.training_labels.tolist() == [*range(10), 0, 1]
    assert raw.test.shape == (5, 1, 28, 28)
    assert raw.test_labels.tolist() == list(range(5))


@pytest.mark.parametrize(("load", "name"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST")])
def test_a_missing_file_is_named(load, name, tmp_path):
    with pytest.raises(MetaTrainError, match=f"{name}/raw/train-images-idx3-ubyte.gz` from https"):
        load(tmp_path)
