import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from meta_train.data.dataset import Dataset
from meta_train.errors import MetaTrainError
from meta_train.tasks.model_task import ModelTask, fresh, weights


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x, y):
        return self.first(x) + self.second(y)


def data(classes=4):
    generator = torch.Generator().manual_seed(0)

    def part(n):
        targets = (
            torch.randint(classes, (n,), generator=generator)
            if classes
            else torch.randn(n, 4, generator=generator)
        )
        return torch.randn(n, 3, generator=generator), torch.randn(n, 2), targets

    return Dataset("pairs", {"train": part(20), "held_out": part(5), "test": part(6)}, classes)


def test_several_inputs():
    task = ModelTask(TwoInputs, data(), cross_entropy, batch=7)
    problem = task.problem(torch.Generator().manual_seed(0))
    x, y, targets = (t[0] for t in task.batches({}, 2, torch.Generator(), "train"))
    assert (x.shape, y.shape, targets.shape) == ((7, 3), (7, 2), (7,))
    module = TwoInputs()
    module.load_state_dict(problem.parameters)
    expected = cross_entropy(module(x, y), targets)
    torch.testing.assert_close(task.loss(*problem, (x, y, targets)), expected)
    right = (module(x, y).argmax(1) == targets).float().mean()
    assert task.metrics(*problem, (x, y, targets)) == {"accuracy": right}
    assert set(task.graph.parameters) == set(problem.parameters)


def test_targets_that_are_no_classes():
    task = ModelTask(TwoInputs, data(classes=0), mse_loss, batch=7)
    problem = task.problem(torch.Generator())
    batch = tuple(t[0] for t in task.batches({}, 1, torch.Generator()))
    assert task.loss(*problem, batch).dim() == 0
    assert task.metrics(*problem, batch) == {}


@pytest.mark.parametrize("split", ["train", "held_out", "test"])
def test_batches_are_of_the_split(split):
    dataset = data()
    known = set(map(tuple, dataset.splits[split][0].tolist()))
    task = ModelTask(TwoInputs, dataset, cross_entropy)
    x, *_ = task.batches({}, 2, torch.Generator().manual_seed(0), split)
    assert set(map(tuple, x.flatten(0, 1).tolist())) == known


def test_the_name_is_that_of_the_data_by_default():
    assert ModelTask(TwoInputs, data(), cross_entropy).name == "pairs"
    assert ModelTask(TwoInputs, data(), cross_entropy, name="mine").name == "mine"


def test_a_module_without_parameters():
    with pytest.raises(MetaTrainError, match=r"`mine` has no parameters.\n  Give `build`"):
        ModelTask(nn.Identity, data(), cross_entropy, name="mine")


def test_moving_to_the_same_device_copies_nothing():
    task = ModelTask(TwoInputs, data(), cross_entropy)
    assert task.to(torch.device("cpu")) is task


def test_a_device_gets_data_and_module():
    task = ModelTask(TwoInputs, data(), cross_entropy)
    there = task.to(torch.device("meta"))
    assert all(p.is_meta for p in there.module.parameters())
    assert all(t.is_meta for t in there.data.splits["test"])
    assert not any(p.is_meta for p in task.module.parameters())


def test_fresh_modules_follow_from_the_generator():
    before = torch.get_rng_state()
    first, second, third = (
        weights(fresh(TwoInputs, torch.Generator().manual_seed(seed)), torch.device("cpu"))
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], third[name]) for name in first)


def test_weights_are_plain_tensors():
    assert not any(t.requires_grad for t in weights(TwoInputs(), torch.device("cpu")).values())
