import math
from itertools import pairwise

import pytest
import torch

from meta_train.errors import MetaTrainError
from meta_train.estimators.backprop import TruncatedBackprop
from meta_train.inner_stacks import InnerStack, Lengths
from meta_train.meta_loss import MetaLoss
from meta_train.tasks.mlp import MLP
from meta_train.unroll.stacked import Stacked
from ngopt.rules import FF, LSTM

FAMILIES = [MLP(width=(4, 6), depth=(1,), batch=(4,)), MLP(width=(5,), depth=(1, 2), batch=(4,))]


def make(number=0, seed=0, families=FAMILIES, lengths=None, rule=None, entries=0):
    unroll = Stacked(rule or LSTM(hidden=2, layers=1))
    estimator = TruncatedBackprop(unroll, MetaLoss(), truncation=2)
    lengths = lengths or Lengths(2, 12)
    return InnerStack(number, estimator, families, 2, lengths, seed, torch.device("cpu"), entries)


def history(stack, steps):
    seen = []
    for _ in range(steps):
        losses = stack.estimate().losses
        seen.append((stack.task.name, stack.age, stack.length, losses.tolist()))
    return seen


def test_lengths_are_log_uniform():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([float(Lengths(10, 1000).draw(generator)) for _ in range(2000)])
    assert drawn.min() >= 10
    assert drawn.max() <= 1000
    logs = drawn.log10()
    # Uniform on [1, 3]: mean 2, standard error 0.58 / sqrt(2000) = 0.013.
    assert abs(float(logs.mean()) - 2) < 0.05
    assert abs(float((drawn < 100).float().mean()) - 0.5) < 0.05


@pytest.mark.parametrize("wrong", [(0, 5), (6, 5)])
def test_lengths_that_make_no_sense(wrong):
    with pytest.raises(MetaTrainError, match="1 <= shortest <= longest"):
        Lengths(*wrong)


def test_tasks_change_when_their_length_is_over_and_all_families_come():
    stack = make()
    seen = history(stack, 60)
    names = [name for name, *_ in seen]
    assert len(set(names)) == 4
    for (name, age, length, _), (after, later, *_) in pairwise(seen):
        if age < length:
            assert (after, later) == (name, age + 2)
        else:
            assert later == 2


def test_first_tasks_are_cut_off_at_different_ages():
    lengths = [make(number, lengths=Lengths(1000, 1000)).length for number in range(20)]
    assert len(set(lengths)) > 15
    assert max(lengths) <= 1000
    assert min(lengths) < 300


def test_stacks_and_seeds_are_independent_and_deterministic():
    assert history(make(3), 6) == history(make(3), 6)
    starts = {
        tuple(make(number, seed).particles.runs.parameters["1.weight"].flatten()[:4].tolist())
        for number in range(3)
        for seed in range(3)
    }
    assert len(starts) == 9


@pytest.mark.parametrize("spent", [0, 1, 3, 7])
def test_stack_resumes_bitwise(spent):
    stack = make()
    history(stack, spent)
    state = stack.state_dict()
    copy = make(seed=99)
    copy.load_state_dict(state)
    assert history(stack, 8) == history(copy, 8)


def test_other_families_are_refused():
    stack = make()
    with pytest.raises(MetaTrainError, match="the same draw now gives"):
        make(families=[MLP(width=(7,), batch=(4,))]).load_state_dict(stack.state_dict())


def test_persistent_runs_go_on_within_a_task():
    stack = make(lengths=Lengths(1000, 1000), rule=FF())
    stack.length = math.inf
    before = stack.particles.runs.state["1.weight"]["step"]
    history(stack, 3)
    after = stack.particles.runs.state["1.weight"]["step"]
    assert torch.equal(after, before + 6)


def test_large_models_get_fewer_problems():
    family = [MLP(width=(4,), depth=(1,), batch=(4,))]
    weights = 64 * 4 + 4 + 4 * 10 + 10
    for entries, problems in ((0, 2), (2 * weights, 2), (2 * weights - 1, 1), (1, 1)):
        assert len(make(families=family, entries=entries).particles.runs) == problems


def test_a_task_that_comes_again_is_the_same_object():
    family = [MLP(width=(4,), depth=(1,), batch=(4,))]
    stack = make(families=family, lengths=Lengths(2, 2))
    first, starts = stack.task, stack.particles.runs.parameters
    for _ in range(2):
        stack.estimate()
    assert stack.task is first
    assert not torch.equal(stack.particles.runs.parameters["1.weight"], starts["1.weight"])
