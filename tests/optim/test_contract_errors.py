import pytest
import torch
from torch import nn

from tests.contract import Small, assert_same, copy_of, every_case, every_plain_case, train


@every_plain_case
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_negative_options(case, option):
    with pytest.raises(ValueError, match="learning rate|lr" if option == "lr" else option):
        case.build(Small(), **{option: -1.0})


@every_plain_case
def test_empty_parameter_list(case):
    with pytest.raises(ValueError, match="empty parameter list"):
        case.make([])


@every_plain_case
def test_a_lone_tensor(case):
    with pytest.raises(TypeError, match="iterable of Tensors or dicts"):
        case.make(nn.Parameter(torch.ones(2)))


@every_plain_case
def test_what_is_no_tensor(case):
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        case.make(["weight"])


@every_plain_case
def test_what_is_no_leaf(case):
    with pytest.raises(ValueError, match="non-leaf"):
        case.make([nn.Parameter(torch.ones(2)) * 2])


@every_plain_case
def test_a_group_of_a_set(case):
    with pytest.raises(TypeError, match="order"):
        case.make([{"params": {nn.Parameter(torch.ones(2))}}])


@every_case
def test_a_parameter_in_two_groups_is_refused_and_changes_nothing(case):
    model = Small()
    optimizer = case.build(model)
    train(model, optimizer, 1)
    saved = repr(optimizer)
    group = case.group(model, lr=0.5)
    with pytest.raises(ValueError, match="parameter"):
        optimizer.add_param_group(group)
    assert repr(optimizer) == saved
    before = copy_of(model)
    train(model, optimizer, 1)
    with pytest.raises(AssertionError):
        assert_same(before, copy_of(model))


@every_case
def test_a_group_that_is_no_dict(case):
    optimizer = case.build(Small())
    with pytest.raises(TypeError, match="must be a dict"):
        optimizer.add_param_group([nn.Parameter(torch.ones(2))])
    assert len(optimizer.param_groups) == 1


@every_plain_case
def test_an_error_in_the_closure_passes_through_and_changes_nothing(case):
    model = Small()
    optimizer = case.build(model)
    train(model, optimizer, 1)
    before = copy_of(model)

    def closure():
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        optimizer.step(closure)
    assert_same(before, copy_of(model))
    train(model, optimizer, 1)
