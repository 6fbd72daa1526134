import torch

from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.augmentation.wrapped import Wrapped, innermost
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import problems


def mlp():
    return MLP(width=(8,), depth=(1,), batch=(4,)).sample(torch.Generator().manual_seed(0))


def test_it_is_the_task_within():
    inner = mlp()
    task = Wrapped(inner, "nothing")
    assert task.name == f"{inner.name} + nothing"
    assert task.graph is inner.graph
    one, other = (problems(t, 2, torch.Generator().manual_seed(3)) for t in (task, inner))
    assert all(torch.equal(one.parameters[n], other.parameters[n]) for n in other.parameters)
    batch = task.batches(one.context, 2, torch.Generator().manual_seed(4), "test")
    known = inner.batches(one.context, 2, torch.Generator().manual_seed(4), "test")
    assert all(map(torch.equal, batch, known))
    run, sample = {n: p[0] for n, p in one.parameters.items()}, tuple(t[0] for t in batch)
    assert task.loss(run, {}, sample) == inner.loss(run, {}, sample)
    assert task.metrics(run, {}, sample) == inner.metrics(run, {}, sample)


def test_wrappers_in_wrappers_keep_their_context_apart():
    inner = mlp()
    task = Rescaled(Rescaled(inner, "tensor", 10), "entry", 10)
    start = task.problem(torch.Generator().manual_seed(0))
    plain = inner.problem(torch.Generator().manual_seed(0)).parameters
    assert len(start.context) == 2 * len(plain)
    batch = tuple(t[0] for t in task.batches({}, 1, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(
        task.loss(start.parameters, start.context, batch), inner.loss(plain, {}, batch)
    )
    assert innermost(task) is inner


def test_it_moves_with_the_task_within():
    task = Rescaled(Wrapped(mlp(), "nothing"), "entry", 10)
    moved = task.to(torch.device("meta"))
    assert moved.device == moved.inner.device == innermost(moved).device == torch.device("meta")
    assert task.device == innermost(task).device == torch.device("cpu")
    assert (moved.level, moved.name) == (task.level, task.name)
    start = moved.problem(torch.Generator().manual_seed(0))
    assert {t.device.type for part in start for t in part.values()} == {"meta"}
