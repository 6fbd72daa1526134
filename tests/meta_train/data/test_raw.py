import pytest
import torch

from meta_train.data.images import IMAGES
from tests.meta_train.data.original_files import write_cifar10, write_mnist


@pytest.mark.parametrize("name", IMAGES)
def test_every_loader_gives_images_and_labels(name, tmp_path, monkeypatch):
    write_mnist(tmp_path, "MNIST")
    write_mnist(tmp_path, "FashionMNIST")
    write_cifar10(tmp_path, monkeypatch)
    raw = IMAGES[name](tmp_path)
    for images, labels in ((raw.training, raw.training_labels), (raw.test, raw.test_labels)):
        assert images.dim() == 4
        assert images.shape[-1] == images.shape[-2]
        assert labels.shape == images.shape[:1]
        assert labels.dtype == torch.int64
        assert labels.min() >= 0
        assert labels.max() < raw.classes
    assert raw.training.shape[1:] == raw.test.shape[1:]
