import torch

from meta_train.tasks.rosenbrock import RosenbrockTask
from meta_train.tasks.task import problems
from tests.meta_train.tasks.table import task_of


def test_problems_are_drawn_one_after_the_other():
    task = task_of("quadratic:size=3,rotated=True")
    stacked = problems(task, 3, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        one = task.problem(generator)
        assert one.parameters.keys() == stacked.parameters.keys()
        assert one.context.keys() == stacked.context.keys()
        for part, stack in zip(one, stacked, strict=True):
            assert all(torch.equal(part[name], stack[name][i]) for name in part)


def test_an_empty_context_stays_empty():
    assert problems(RosenbrockTask(2, 1.0), 4, torch.Generator()).context == {}


def test_moving_makes_a_new_task():
    task = RosenbrockTask(2, 1.0)
    task.name = "valley"
    there = task.to(torch.device("meta"))
    assert (there.name, there.device) == ("valley", torch.device("meta"))
    assert task.device == torch.device("cpu")


def test_there_are_no_metrics_by_default():
    task = RosenbrockTask(2, 1.0)
    assert task.metrics(*task.problem(torch.Generator()), (torch.empty(0),)) == {}
