import math

import pytest
import torch
from torch.func import hessian

from meta_train.tasks.quadratic import QuadraticTask


def drawn(rotated, noise=0.0, condition=100.0, seed=0):
    task = QuadraticTask(3, condition, rotated, noise)
    return task, task.problem(torch.Generator().manual_seed(seed))


def at(task, flat):
    return {"matrix": flat[:9].reshape(3, 3), "vector": flat[9:]}


def curvature(task, context):
    zeros = torch.zeros(12)
    return 12 * hessian(lambda w: task.loss(at(task, w), context, (zeros,)))(zeros)


@pytest.mark.parametrize("rotated", [False, True])
def test_eigenvalues_keep_to_the_condition_number(rotated):
    for seed in range(5):
        task, problem = drawn(rotated, seed=seed)
        values = torch.linalg.eigvalsh(curvature(task, problem.context))
        assert values.max() <= 1 + 1e-5
        assert values.min() >= 0.01 - 1e-5


def test_condition_numbers_are_spread():
    conditions = []
    for seed in range(200):
        _, problem = drawn(False, condition=1e4, seed=seed)
        squares = problem.context["factor"].square()
        conditions.append(math.log10(squares.max() / squares.min()))
    assert min(conditions) < 0.5
    assert max(conditions) > 3
    assert 1.2 < sum(conditions) / 200 < 2


def test_only_rotated_ones_have_other_axes():
    for rotated in (False, True):
        task, problem = drawn(rotated)
        matrix = curvature(task, problem.context)
        off = matrix - matrix.diag().diag()
        assert (off.abs().max() > 0.01) == rotated


@pytest.mark.parametrize("rotated", [False, True])
def test_the_target_is_the_minimum(rotated):
    task, problem = drawn(rotated)
    at_target = at(task, problem.context["target"])
    assert task.loss(at_target, problem.context, (torch.zeros(12),)) == 0
    assert task.loss(problem.parameters, problem.context, (torch.zeros(12),)) > 0


def test_only_training_is_noisy():
    task, problem = drawn(True, noise=0.5)
    context = {name: tensor.expand(100, *tensor.shape) for name, tensor in problem.context.items()}
    (noise,) = task.batches(context, 100, torch.Generator().manual_seed(0))
    assert noise.shape == (100, 12)
    assert abs(noise.std() - 0.5) < 0.05
    for split in ("held_out", "test"):
        assert not task.batches(context, 100, torch.Generator(), split)[0].any()
