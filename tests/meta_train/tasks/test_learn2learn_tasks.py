import random
import sys

import numpy
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

from meta_train.data.images import images as images_of
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from meta_train.tasks.learn2learn_tasks import FewShotTask, few_shot_images
from meta_train.tasks.task import SPLITS, problems
from tests import learn2learn


class Counting:
    """A task set by duck typing: samples tell their class, and which task they are of."""

    def __init__(self, ways=3, each=6, shuffled=True):
        self.ways, self.each, self.shuffled = ways, each, shuffled

    def sample(self):
        labels = torch.arange(self.ways).repeat_interleave(self.each)
        if self.shuffled:
            labels = labels[torch.randperm(len(labels))]
        which = torch.full((len(labels),), random.random() + numpy.random.rand())
        return torch.stack([labels.float(), which], 1), labels


class Lines:
    """A task set of regression: values on a random line."""

    def sample(self):
        x = torch.rand(10, 1)
        return x, random.random() * x


def few_shot(taskset=None, **options):
    return FewShotTask(taskset or Counting(), lambda: nn.Linear(2, 3), **{"shots": 2, **options})


def drawn(task, runs=4, seed=0):
    return problems(task, runs, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_its_samples_of_each_class_of_the_runs_own_task(split):
    task = few_shot()
    start = drawn(task)
    inputs, labels = task.batches(start.context, 4, torch.Generator(), split)
    assert inputs.shape == (4, 6, 2)  # 3 classes, 2 samples each
    assert torch.equal(inputs[..., 0], labels.float())
    assert all(run.bincount().tolist() == [2, 2, 2] for run in labels)
    assert (inputs[..., 1] == inputs[:, :1, 1]).all()
    assert len(inputs[:, 0, 1].unique()) == 4


def test_no_sample_is_in_two_splits():
    class Numbered:
        def sample(self):
            return torch.arange(15.0).unsqueeze(1), torch.arange(15) % 3

    task = few_shot(Numbered(), shots=1)
    context = drawn(task, 1).context
    parts = [task.batches(context, 1, torch.Generator(), split)[0].flatten() for split in SPLITS]
    assert torch.cat(parts).sort().values.tolist() == list(range(15))
    assert [len(part) for part in parts] == [3, 6, 6]


def test_batches_are_drawn_from_the_runs_own_task():
    task = few_shot(batch=20)
    start = drawn(task)
    inputs, labels = task.batches(start.context, 4, torch.Generator().manual_seed(0))
    assert inputs.shape == (4, 20, 2)
    assert torch.equal(inputs[..., 0], labels.float())
    assert torch.equal(inputs[:, 0, 1], start.context["train 0"][:, 0, 1])
    assert any((inputs[0] != inputs[run]).any() for run in range(1, 4))


def test_the_generator_decides_and_global_ones_are_left_alone():
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    task = few_shot()
    one, other = drawn(task, seed=3).context, drawn(task, seed=4).context
    assert states[0] == random.getstate()
    assert states[1] == numpy.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.get_rng_state())
    random.seed(1)
    again = drawn(task, seed=3).context
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["train 0"], other["train 0"])


def test_runs_can_be_stacked():
    task = few_shot()
    start = drawn(task)
    batch = task.batches(start.context, 4, torch.Generator())
    losses = torch.vmap(task.loss)(*start, batch)
    for run in range(4):
        alone = [{n: t[run] for n, t in part.items()} for part in start]
        torch.testing.assert_close(losses[run], task.loss(*alone, tuple(t[run] for t in batch)))
    assert set(task.metrics(*alone, tuple(t[3] for t in batch))) == {"accuracy"}


def test_regression_has_no_classes():
    task = FewShotTask(Lines(), lambda: nn.Linear(1, 1), mse_loss, shots=4)
    start = drawn(task)
    sizes = [task.batches(start.context, 4, torch.Generator(), s)[0].shape[1] for s in SPLITS]
    assert sizes == [4, 3, 3]
    batch = task.batches(start.context, 4, torch.Generator())
    assert torch.vmap(task.loss)(*start, batch).isfinite().all()
    assert torch.vmap(task.metrics)(*start, batch) == {}


def test_it_moves():
    task = few_shot().to(torch.device("meta"))
    start = drawn(task)
    assert {t.device.type for part in start for t in part.values()} == {"meta"}
    assert task.batches(start.context, 4, torch.Generator())[0].device.type == "meta"


class Uneven:
    def sample(self):
        return torch.zeros(7, 2), torch.tensor([0, 0, 0, 0, 1, 1, 1])


class Growing(Counting):
    def sample(self):
        self.each += 1
        return super().sample()


def test_task_sets_that_cannot_be_stacked_are_refused():
    with pytest.raises(MetaTrainError, match=r"has \[4, 3\] samples per class"):
        few_shot(Uneven())
    with pytest.raises(MetaTrainError, match="of which 5 are to learn from"):
        few_shot(shots=5)
    with pytest.raises(MetaTrainError, match="differ in shape"):
        drawn(few_shot(Growing()))


def test_without_learn2learn_an_error_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(MetaTrainError, match=r"bash \.ci/install_learn2learn"):
        family_of("learn2learn:ways=3").sample(torch.Generator())


def test_task_sets_of_the_real_learn2learn():
    l2l = learn2learn.require()
    images, labels = images_of("digits", 8).splits["train"]
    dataset = l2l.data.MetaDataset(TensorDataset(images, labels))
    transforms = l2l.data.transforms
    steps = [
        transforms.NWays(dataset, n=3),
        transforms.KShots(dataset, k=6),
        transforms.LoadData(dataset),
        transforms.RemapLabels(dataset),
        transforms.ConsecutiveLabels(dataset),
    ]
    taskset = l2l.data.Taskset(dataset, steps, num_tasks=20)
    task = FewShotTask(
        taskset, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), shots=2, name="mine"
    )
    start = drawn(task)
    inputs, targets = task.batches(start.context, 4, torch.Generator())
    assert inputs.shape == (4, 6, 1, 8, 8)
    assert all(run.bincount().tolist() == [2, 2, 2] for run in targets)
    pairs = zip(images, labels, strict=True)
    known = {image.numpy().tobytes(): int(label) for image, label in pairs}
    for run in range(4):
        true = [known[image.numpy().tobytes()] for image in inputs[run]]
        assert len(set(zip(true, targets[run].tolist(), strict=True))) == 3  # renamed one to one
    assert task.graph.unknown == ()


def test_the_family_learns_tasks_of_the_real_learn2learn():
    learn2learn.require()
    family = family_of("learn2learn:ways=3,shots=4,queries=5,width=16,depth=1")
    task = family.sample(torch.Generator().manual_seed(0))
    assert task.name.startswith("learn2learn(data=digits, size=8, ways=3, shots=4, queries=5")
    start, again = drawn(task, 8, seed=1), drawn(task, 8, seed=1)
    assert all(torch.equal(start.context[n], again.context[n]) for n in start.context)
    assert {n: tuple(t.shape[1:2]) for n, t in start.context.items()} == {
        "train 0": (12,), "train 1": (12,), "held_out 0": (15,), "held_out 1": (15,),
        "test 0": (15,), "test 1": (15,),
    }  # fmt: skip
    parameters = start.parameters
    batch = task.batches(start.context, 8, torch.Generator())
    for _ in range(60):
        gradients = torch.vmap(torch.func.grad(task.loss))(parameters, start.context, batch)
        parameters = {n: p - 0.1 * gradients[n] for n, p in parameters.items()}
    held_out = task.batches(start.context, 8, torch.Generator(), "held_out")
    accuracy = torch.vmap(task.metrics)(parameters, start.context, held_out)["accuracy"]
    assert accuracy.mean() > 0.7  # by chance 0.33


def test_tasks_of_the_real_learn2learn_have_classes_of_their_own():
    learn2learn.require()
    taskset = few_shot_images("digits", 8, ways=2, samples=4)
    random.seed(0)
    images, labels = taskset.sample()
    assert images.shape == (8, 1, 8, 8)
    assert labels.bincount().tolist() == [4, 4]
