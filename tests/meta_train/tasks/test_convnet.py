import pytest
import torch
from torch import nn

from tests.meta_train.data.original_files import write_cifar10, write_mnist
from tests.meta_train.tasks.table import task_of


def weights(task):
    return sum(parameter.numel() for parameter in task.module.parameters())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path))
    return tmp_path


def test_the_net_that_the_paper_meta_trains_on(folder):
    write_mnist(folder, "FashionMNIST")
    task = task_of("convnet:data=fashion_mnist,size=28,width=16,depth=3")
    assert weights(task) == 14_378
    assert task.module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_net_that_the_paper_tests_on(folder, monkeypatch):
    write_cifar10(folder, monkeypatch)
    task = task_of("convnet:data=cifar10,size=32,width=32,depth=3")
    assert weights(task) == 56_970
    assert task.module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_first_convolution_halves_the_image():
    task = task_of("convnet:size=8,width=4,depth=3,kernel=5")
    maps = torch.zeros(1, 1, 8, 8)
    shapes = []
    for layer in task.module:
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d):
            shapes.append(tuple(maps.shape[1:]))
    assert shapes == [(4, 4, 4), (8, 4, 4), (8, 4, 4)]
