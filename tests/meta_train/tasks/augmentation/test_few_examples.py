import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.rules import rule_of
from meta_train.tasks.augmentation import NoisyLabels, with_few_examples
from meta_train.tasks.augmentation.wrapped import innermost
from meta_train.tasks.mlp import MLP
from meta_train.tasks.quadratic import Quadratic
from meta_train.unroll.options import UnrollOptions
from meta_train.unroll.stacked import Stacked


def mlp():
    return MLP(width=(8,), depth=(1,)).sample(torch.Generator().manual_seed(0))


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


def test_it_reaches_through_wrappers():
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
