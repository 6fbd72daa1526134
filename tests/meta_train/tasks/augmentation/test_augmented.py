from collections import Counter

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.augmented import (
    VELO,
    Augmentation,
    Augmented,
    classes_of_images,
)
from meta_train.tasks.augmentation.less_data import batch_of
from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import Task, problems

EVERYTHING = Augmentation(rescale=("entry",), batch=1.0, images=1.0, labels=1.0)


class OneTask:
    """Draws the same task again and again; fast."""

    def __init__(self):
        self.task = MLP(width=(8,), depth=(1,)).sample(torch.Generator().manual_seed(0))

    def sample(self, generator):
        return self.task


def names(augmentation, count, base=None):
    family = Augmented(base or OneTask(), augmentation)
    generator = torch.Generator().manual_seed(0)
    return [family.sample(generator).name for _ in range(count)]


def test_by_default_nothing_is_done():
    base = OneTask()
    assert Augmented(base, Augmentation()).sample(torch.Generator()) is base.task


def test_probabilities_are_met():
    drawn = names(Augmentation(batch=0.1, images=0.3, labels=0.6), 1000)
    shares = [sum(word in name for name in drawn) / 1000 for word in ("batch(", "images", "labels")]
    assert shares == pytest.approx([0.1, 0.3, 0.6], abs=0.05)


def test_velos_levels_and_factors():
    drawn = names(VELO, 1400)
    levels = Counter(name.partition("level=")[2].partition(",")[0] or "none" for name in drawn)
    shares = [levels[level] / 1400 for level in ("none", "network", "tensor", "entry")]
    assert shares == pytest.approx([2 / 7, 2 / 7, 2 / 7, 1 / 7], abs=0.05)
    factors = Counter(name.partition("factor=")[2] for name in drawn if "factor" in name)
    assert set(factors) == {"1000)", "100)", "10)"}
    assert min(factors.values()) > 0.28 * sum(factors.values())


def test_batch_sizes_are_log_uniform_between_the_fraction_and_the_tasks_own():
    family = Augmented(OneTask(), Augmentation(batch=1.0, fraction=1 / 16))
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([float(batch_of(family.sample(generator))) for _ in range(400)])
    assert (sizes.min(), sizes.max()) == (4, 64)
    assert (sizes < 16).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_everything_at_once_can_be_stacked_and_is_named():
    task = Augmented(OneTask(), EVERYTHING).sample(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    start = problems(task, 3, generator)
    batch = task.batches(start.context, 3, generator)
    assert torch.vmap(task.loss)(*start, batch).isfinite().all()
    assert [part.partition("(")[0] for part in task.name.split(" + ")] == [
        "mlp",
        "batch",
        "noisy images",
        "noisy labels",
        "rescaled",
    ]


def test_augmented_families_can_be_augmented_again():
    inside = Augmented(OneTask(), Augmentation(rescale=("tensor",), factors=(10.0,)))
    task = Augmented(inside, EVERYTHING).sample(torch.Generator().manual_seed(0))
    assert isinstance(task, Rescaled)
    assert task.name.count("rescaled") == 2
    generator = torch.Generator().manual_seed(0)
    start = problems(task, 2, generator)
    batch = task.batches(start.context, 2, generator)
    assert torch.vmap(task.loss)(*start, batch).isfinite().all()


def test_the_generator_decides():
    again, same = (names(EVERYTHING, 20, MLP(width=(4, 8), depth=(1,))) for _ in range(2))
    assert again == same
    assert len(set(again)) > 10


class Plain(Task):
    """A task without data."""

    name = "plain"
    graph = problem = batches = loss = to = None


def test_what_makes_no_sense_for_a_task_is_left_out():
    class Family:
        def sample(self, generator):
            return Plain()

    assert names(EVERYTHING, 1, Family()) == ["plain + rescaled(level=entry, factor=100)"]
    assert classes_of_images(Plain()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rescale": ("layer",)}, "Use some of the levels none, network, tensor, entry"),
        ({"rescale": ()}, "Use some of the levels"),
        ({"factors": ()}, "at least one factor"),
        ({"batch": 1.5}, r"batch=1\.5 is no probability"),
        ({"fraction": 0.0}, r"fraction=0\.0 is no fraction"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(MetaTrainError, match=message):
        Augmentation(**options)
