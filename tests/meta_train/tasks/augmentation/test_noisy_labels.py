import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.noisy_labels import NoisyLabels
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import problems


def mlp(batch=2000):
    family = MLP(width=(8,), depth=(1,), batch=(batch,))
    return family.sample(torch.Generator().manual_seed(0))


def labels(task, start, split, seed=5):
    runs = len(next(iter(start.parameters.values())))
    return task.batches(start.context, runs, torch.Generator().manual_seed(seed), split)[-1]


def test_each_run_has_its_share_of_wrong_labels():
    inner = mlp()
    task = NoisyLabels(inner, 10, 0.8)
    start = problems(task, 20, torch.Generator().manual_seed(0))
    share = start.context[task.key("share")]
    assert share.shape == (20,)
    assert share.max() <= 0.8
    assert share.std() > 0.1
    changed = (labels(task, start, "train") != labels(inner, start, "train")).float().mean(1)
    # of the random classes, one in ten is the right one
    torch.testing.assert_close(changed, 0.9 * share, atol=0.05, rtol=0)


def test_wrong_labels_are_any_class_and_differ_from_batch_to_batch():
    task = NoisyLabels(mlp(), 10, 1.0)
    start = problems(task, 1, torch.Generator().manual_seed(0))
    start.context[task.key("share")].fill_(1.0)
    first, again, other = (labels(task, start, "train", seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first != other).float().mean() > 0.8
    counts = torch.bincount(first.flatten(), minlength=10)
    assert counts.min() > 130
    assert counts.sum() == 2000


@pytest.mark.parametrize("split", ["held_out", "test"])
def test_other_splits_and_the_images_stay(split):
    inner = mlp(50)
    task = NoisyLabels(inner, 10, 1.0)
    start = problems(task, 2, torch.Generator().manual_seed(0))
    assert torch.equal(labels(task, start, split), labels(inner, start, split))
    images, plain = (
        t.batches(start.context, 2, torch.Generator().manual_seed(3))[0] for t in (task, inner)
    )
    assert torch.equal(images, plain)


def test_two_in_a_row_keep_their_shares_apart():
    first = NoisyLabels(mlp(50), 10, 0.1)
    second = NoisyLabels(first, 10, 0.9)
    start = problems(second, 2, torch.Generator().manual_seed(0))
    assert set(start.context) == {first.key("share"), second.key("share")}
    assert len(start.context) == 2
    assert labels(second, start, "train").shape == (2, 50)
    assert second.name.endswith("+ noisy labels(most=0.1) + noisy labels(most=0.9)")


def test_a_loss_can_be_stacked():
    task, generator = NoisyLabels(mlp(8), 10, 0.5), torch.Generator().manual_seed(0)
    start = problems(task, 3, generator)
    batch = task.batches(start.context, 3, generator)
    assert torch.vmap(task.loss)(*start, batch).isfinite().all()


def test_tasks_without_classes_are_refused():
    with pytest.raises(MetaTrainError, match="Use a task that classifies"):
        NoisyLabels(mlp(8), 0, 0.5)
    with pytest.raises(MetaTrainError, match=r"a share of up to 1\.5"):
        NoisyLabels(mlp(8), 10, 1.5)
