"""Smaller batches and few training examples."""

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.rules import rule_of
from meta_train.tasks.augmentation.less_data import batch_of, with_batch, with_few_examples
from meta_train.tasks.augmentation.noisy_labels import NoisyLabels
from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.augmentation.wrapped import innermost
from meta_train.tasks.mlp import MLP
from meta_train.tasks.quadratic import Quadratic
from meta_train.tasks.task import problems
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked


def mlp():
    return MLP(width=(8,), depth=(1,)).sample(torch.Generator().manual_seed(0))


def test_another_batch_size_leaves_the_task_as_it_was():
    task = mlp()
    other = with_batch(task, 5)
    assert other.batches({}, 2, torch.Generator())[0].shape == (2, 5, 1, 8, 8)
    assert task.batches({}, 2, torch.Generator())[0].shape == (2, 64, 1, 8, 8)
    assert other.name == f"{task.name} + batch(5)"
    assert (batch_of(other), batch_of(task)) == (5, 64)


def test_batches_change_within_wrappers():
    task = with_batch(NoisyLabels(Rescaled(mlp(), "entry", 10), 10, 0.5), 5)
    start = problems(task, 2, torch.Generator().manual_seed(0))
    batch = task.batches(start.context, 2, torch.Generator().manual_seed(0))
    assert batch[1].shape == (2, 5)
    assert torch.vmap(task.loss)(*start, batch).shape == (2,)
    assert task.name.endswith("+ noisy labels(most=0.5) + batch(5)")


def test_no_samples_are_refused():
    with pytest.raises(MetaTrainError, match="a batch size of 0"):
        with_batch(mlp(), 0)


def test_only_some_examples_are_trained_on():
    task = mlp()
    few = with_few_examples(task, 5)
    images = few.batches({}, 1, torch.Generator().manual_seed(0))[0][0]
    assert len(torch.unique(images.flatten(1), dim=0)) == 5
    held_out = few.batches({}, 1, torch.Generator().manual_seed(0), "held_out")[0]
    assert torch.equal(
        held_out, task.batches({}, 1, torch.Generator().manual_seed(0), "held_out")[0]
    )
    assert few.name == f"{task.name} + examples(5)"
    assert (task.measure, few.measure) == (None, "held_out")
    assert len(task.data.splits["train"][0]) > 5


def test_examples_are_left_out_within_wrappers():
    few = with_few_examples(NoisyLabels(mlp(), 10, 0.5), 5)
    assert few.measure == "held_out"
    assert len(innermost(few).data.splits["train"][0]) == 5


def test_what_is_learned_by_heart_is_not_what_is_measured():
    # Twenty examples are soon known by heart; held-out examples are not, whatever the options say.
    unroll = Stacked(rule_of("Adam"), UnrollOptions(lr=1e-2))
    losses = {}
    for name, task in {"few": with_few_examples(mlp(), 20), "all": mlp()}.items():
        runs = unroll.begin(task, 4, torch.Generator().manual_seed(0))
        with torch.no_grad():
            after = unroll.advance(runs, 200)
        losses[name] = after.losses[-20:].mean()
        seen = after.runs.losses.mean()
    assert losses["few"] > 4 * losses["all"]
    assert losses["all"] < 2 * seen


@pytest.mark.parametrize("examples", [0, 10**6])
def test_numbers_that_make_no_sense_are_refused(examples):
    with pytest.raises(MetaTrainError, match=f"cannot leave {examples} training examples"):
        with_few_examples(mlp(), examples)


def test_a_task_without_data_is_refused():
    task = Quadratic().sample(torch.Generator().manual_seed(0))
    with pytest.raises(MetaTrainError, match="which has 0"):
        with_few_examples(task, 5)
