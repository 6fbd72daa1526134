import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.family import family_of
from tests.meta_train.tasks.table import task_of


@pytest.mark.parametrize("family", ["transformer_lm", "gpt_lm", "moe"])
def test_characters_are_predicted_from_those_before(family):
    task = task_of(f"{family}:length=10,depth=2,width=8,heads=2")
    tokens = torch.randint(96, (1, 10))
    changed = tokens.clone()
    changed[0, 6] = (tokens[0, 6] + 1) % 96
    same = (task.module(tokens) == task.module(changed)).all(-1)[0]
    assert same.tolist() == [True] * 6 + [False] * 4


def test_the_order_of_characters_matters():
    task = task_of("transformer_lm:length=4,depth=1,width=8,heads=2")
    first, second = (task.module(torch.tensor([tokens])) for tokens in ([1, 2, 3, 4], [2, 1, 3, 4]))
    assert not torch.allclose(first[0, 3], second[0, 3])


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(MetaTrainError, match="width 16 cannot have 3 heads"):
        family_of("transformer_lm:width=16,heads=3").sample(torch.Generator())
