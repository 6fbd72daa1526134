import pytest
import torch
from scipy.optimize import rosen

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from meta_train.tasks.rosenbrock import RosenbrockTask

NOTHING = (torch.empty(0),)


@pytest.mark.parametrize("size", [2, 5])
def test_the_function_is_that_of_scipy(size):
    task = RosenbrockTask(size, 100.0)
    problem = task.problem(torch.Generator().manual_seed(0))
    expected = rosen(problem.parameters["point"].double().numpy()) / (size - 1)
    assert float(task.loss(*problem, NOTHING)) == pytest.approx(expected, rel=1e-5)


def test_the_minimum():
    assert RosenbrockTask(4, 10.0).loss({"point": torch.ones(4)}, {}, NOTHING) == 0


def test_one_dimension_is_too_few():
    with pytest.raises(MetaTrainError, match="size=1"):
        family_of("rosenbrock:size=1").sample(torch.Generator())
