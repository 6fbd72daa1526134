import torch
from torch import nn

from meta_train.data.images import images
from meta_train.tasks.autoencoder import reconstruction
from tests.meta_train.tasks.table import task_of


def test_targets_are_the_inputs():
    digits = images("digits", 8)
    dataset = reconstruction(digits)
    assert dataset.splits.keys() == digits.splits.keys()
    for split, (inputs, targets) in dataset.splits.items():
        assert torch.equal(inputs, digits.splits[split][0].flatten(1))
        assert torch.equal(inputs, targets)
    assert dataset is reconstruction(digits)


def test_layers_are_symmetric_about_the_code():
    task = task_of("autoencoder:size=4,width=8,depth=2,code=3")
    sizes = [layer.out_features for layer in task.module if isinstance(layer, nn.Linear)]
    assert sizes == [8, 8, 3, 8, 8, 16]


def test_there_is_no_accuracy():
    task = task_of("autoencoder:size=4,width=8,depth=1,code=3")
    problem = task.problem(torch.Generator())
    batch = tuple(t[0] for t in task.batches({}, 1, torch.Generator()))
    assert task.metrics(*problem, batch) == {}
