import math

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.rescaled import LEVELS, Rescaled
from meta_train.tasks.mlp import MLP
from meta_train.tasks.task import problems


def mlp():
    family = MLP(width=(8,), depth=(1,), batch=(16,))
    return family.sample(torch.Generator().manual_seed(0))


def started(task, seed=0):
    """A run's parameters and context, and a batch."""
    generator = torch.Generator().manual_seed(seed)
    start = problems(task, 1, generator)
    batch = task.batches(start.context, 1, generator)
    return *({n: t[0] for n, t in part.items()} for part in start), tuple(t[0] for t in batch)


@pytest.mark.parametrize("level", LEVELS)
def test_loss_and_metrics_at_the_start_stay_what_they_are(level):
    inner = mlp()
    task = Rescaled(inner, level, 1000)
    parameters, context, batch = started(task)
    plain = inner.problem(torch.Generator().manual_seed(0)).parameters
    assert all((parameters[name] != plain[name]).any() for name in plain)
    torch.testing.assert_close(task.loss(parameters, context, batch), inner.loss(plain, {}, batch))
    assert task.metrics(parameters, context, batch) == inner.metrics(plain, {}, batch)


@pytest.mark.parametrize("level", LEVELS)
def test_gradients_are_multiplied_by_the_scales(level):
    inner = mlp()
    task = Rescaled(inner, level, 100)
    parameters, context, batch = started(task)
    plain = inner.problem(torch.Generator().manual_seed(0)).parameters
    scaled = torch.func.grad(lambda p: task.loss(p, context, batch))(parameters)
    known = torch.func.grad(lambda p: inner.loss(p, {}, batch))(plain)
    for name, gradient in known.items():
        scale = context[task.key(name)]
        torch.testing.assert_close(scaled[name], gradient * scale, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(parameters[name] * scale, plain[name])


def test_each_level_has_its_number_of_scales():
    counts = {}
    for level in LEVELS:
        _, context, _ = started(Rescaled(mlp(), level, 10))
        counts[level] = len(torch.cat([s.flatten() for s in context.values()]).unique())
    entries = sum(p.numel() for p in mlp().module.parameters())
    assert (counts["network"], counts["tensor"]) == (1, 4)
    assert counts["entry"] > 0.99 * entries


def test_scales_are_log_uniform_within_the_factor():
    _, context, _ = started(Rescaled(mlp(), "entry", 100))
    exponents = torch.cat([s.log().flatten() for s in context.values()]) / math.log(100)
    assert exponents.abs().max() <= 1.00001
    quarters = torch.histc(exponents, 4, -1, 1) / len(exponents)
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.06, rtol=0)


def test_runs_differ_and_the_generator_decides():
    task = Rescaled(mlp(), "network", 10)
    one, again = (problems(task, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    for part, same in zip(one, again, strict=True):
        assert all(torch.equal(part[name], same[name]) for name in part)
    scales = next(iter(one.context.values()))
    assert len(scales.unique()) == 3


@pytest.mark.parametrize("level", LEVELS)
def test_runs_can_be_stacked(level):
    task, generator = Rescaled(mlp(), level, 10), torch.Generator().manual_seed(0)
    start = problems(task, 3, generator)
    batch = task.batches(start.context, 3, generator)
    losses = torch.vmap(task.loss)(*start, batch)
    for run in range(3):
        alone = [{n: t[run] for n, t in part.items()} for part in start]
        torch.testing.assert_close(losses[run], task.loss(*alone, tuple(t[run] for t in batch)))


def test_the_graph_and_the_name_tell_the_task_within():
    inner = mlp()
    task = Rescaled(inner, "tensor", 100)
    assert task.graph == inner.graph
    assert task.name == f"{inner.name} + rescaled(level=tensor, factor=100)"


def test_senseless_scales_are_refused():
    with pytest.raises(MetaTrainError, match="Use one of the levels network, tensor, entry"):
        Rescaled(mlp(), "layer", 10)
    with pytest.raises(MetaTrainError, match=r"up to 0\.5"):
        Rescaled(mlp(), "entry", 0.5)
