import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.batch_size import batch_of, with_batch
from meta_train.tasks.augmentation.noisy_labels import NoisyLabels
from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import problems


def mlp():
    return MLP(width=(8,), depth=(1,)).sample(torch.Generator().manual_seed(0))


def test_another_batch_size_leaves_the_task_as_it_was():
    task = mlp()
    other = with_batch(task, 5)
    assert other.batches({}, 2, torch.Generator())[0].shape == (2, 5, 1, 8, 8)
    assert task.batches({}, 2, torch.Generator())[0].shape == (2, 64, 1, 8, 8)
    assert other.name == f"{task.name} + batch(5)"
    assert (batch_of(other), batch_of(task)) == (5, 64)


def test_it_reaches_through_wrappers():
    task = with_batch(NoisyLabels(Rescaled(mlp(), "entry", 10), 10, 0.5), 5)
    start = problems(task, 2, torch.Generator().manual_seed(0))
    batch = task.batches(start.context, 2, torch.Generator().manual_seed(0))
    assert batch[1].shape == (2, 5)
    assert torch.vmap(task.loss)(*start, batch).shape == (2,)
    assert task.name.endswith("+ noisy labels(most=0.5) + batch(5)")


def test_no_samples_are_refused():
    with pytest.raises(MetaTrainError, match="a batch size of 0"):
        with_batch(mlp(), 0)
