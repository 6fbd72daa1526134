import copy

import pytest
import torch
from torch import nn

from tests.contract import (
    Small,
    all_moved,
    assert_same,
    backward,
    copy_of,
    every_case,
    every_plain_case,
    loss_of,
    train,
)


@every_case
def test_a_step_moves_every_parameter_and_training_lowers_the_loss(case):
    model = Small()
    optimizer = case.build(model)
    before = copy_of(model)
    first = backward(model)
    optimizer.step()
    assert all_moved(before, copy_of(model))
    for _ in range(15):
        backward(model)
        optimizer.step()
    assert loss_of(model) < 0.95 * first


@every_case
@pytest.mark.parametrize("how", ["positional", "keyword"])
def test_closure_is_called_once_with_grad_and_its_loss_is_returned(case, how):
    model = Small()
    optimizer = case.build(model)
    before = copy_of(model)
    losses = []

    def closure():
        assert torch.is_grad_enabled()
        losses.append(backward(model))
        return losses[-1]

    returned = optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)
    assert len(losses) == 1
    assert returned is losses[0]
    assert all_moved(before, copy_of(model))


@every_plain_case
def test_step_without_closure_returns_none_and_builds_no_graph(case):
    model = Small()
    optimizer = case.build(model)
    backward(model)
    assert optimizer.step() is None
    state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    assert state
    assert not any(tensor.requires_grad for tensor in state)
    assert all(p.is_leaf and p.requires_grad for p in model.parameters())


@every_case
def test_no_gradients_is_no_step(case):
    model = Small()
    optimizer = case.build(model)
    before = copy_of(model)
    optimizer.step()
    assert_same(before, copy_of(model))
    assert not optimizer.state


@every_case
def test_parameters_without_gradient_and_frozen_ones_stay(case):
    model = Small()
    model.norm.requires_grad_(False)
    optimizer = case.build(model, weight_decay=0.1)
    before = copy_of(model)
    backward(model)
    model.temperature.grad = None
    optimizer.step()
    after = copy_of(model)
    still = {"norm.weight", "norm.bias", "temperature"}
    assert_same({n: before[n] for n in still}, {n: after[n] for n in still})
    assert all_moved({n: t for n, t in before.items() if n not in still}, after)


@every_plain_case
def test_a_parameter_may_get_its_first_gradient_late(case):
    model = Small()
    model.linear.requires_grad_(False)
    optimizer = case.build(model)
    train(model, optimizer, 2)
    before = copy_of(model)
    model.linear.requires_grad_(True)
    train(model, optimizer, 1)
    assert all_moved(before, copy_of(model))


@every_case
def test_groups_have_their_own_options(case):
    model, other = Small(), Small()
    still = copy_of(other)
    optimizer = case.of_groups([case.group(model, lr=1e-2), case.group(other, lr=0.0)])
    before = copy_of(model)
    backward(model)
    backward(other)
    optimizer.step()
    assert all_moved(before, copy_of(model))
    assert_same(still, copy_of(other))


@every_case
def test_groups_equal_separate_optimizers_of_each(case):
    model, other = Small(), Small()
    alone, other_alone = copy.deepcopy(model), copy.deepcopy(other)
    together = case.of_groups([case.group(model, lr=1e-2), case.group(other, lr=3e-3)])
    apart = [case.build(alone, lr=1e-2), case.build(other_alone, lr=3e-3)]
    for seed in range(3):
        for each in (model, other, alone, other_alone):
            backward(each, seed)
        for optimizer in (together, *apart):
            optimizer.step()
    torch.testing.assert_close(copy_of(model), copy_of(alone))
    torch.testing.assert_close(copy_of(other), copy_of(other_alone))


@every_case
def test_add_param_group(case):
    model, other = Small(), Small()
    optimizer = case.build(model)
    train(model, optimizer, 1)
    group = case.group(other, lr=1e-3)
    optimizer.add_param_group(group)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-2, 1e-3]
    before, other_before = copy_of(model), copy_of(other)
    backward(model)
    backward(other)
    optimizer.step()
    assert all_moved(before, copy_of(model))
    assert all_moved(other_before, copy_of(other))


@every_plain_case
def test_weight_decay_shrinks_weights(case):
    model, plain = Small(), Small()
    plain.load_state_dict(model.state_dict())
    train(model, case.build(model, weight_decay=5.0), 5)
    train(plain, case.build(plain), 5)
    assert model.convolution.weight.norm() < plain.convolution.weight.norm()


@every_plain_case
def test_maximize_climbs_as_fast_as_minimizing_the_negative_descends(case):
    model = Small()
    negative = copy.deepcopy(model)
    up, down = case.build(model, maximize=True), case.build(negative)
    for _ in range(3):
        backward(model)
        up.step()
        negative.zero_grad()
        (-loss_of(negative)).backward()
        down.step()
    assert_same(copy_of(model), copy_of(negative))


@every_plain_case
def test_zero_lr_moves_nothing(case):
    model = Small()
    optimizer = case.build(model, lr=0.0, weight_decay=0.1)
    before = copy_of(model)
    train(model, optimizer)
    assert_same(before, copy_of(model))


@every_plain_case
def test_zero_gradients_from_a_fresh_state_move_nothing(case):
    model = Small()
    optimizer = case.build(model, weight_decay=0.0)
    before = copy_of(model)
    backward(model)
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    assert_same(before, copy_of(model))


@every_plain_case
def test_gradients_are_left_as_they_are_and_zero_grad_clears_them(case):
    model = Small()
    optimizer = case.build(model, maximize=True)
    backward(model)
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    optimizer.step()
    assert_same(before, {n: p.grad for n, p in model.named_parameters()})
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@every_plain_case
def test_gradient_accumulation_equals_the_sum_of_losses(case):
    model = Small()
    summed = copy.deepcopy(model)
    first, second = case.build(model), case.build(summed)
    for _ in range(2):
        first.zero_grad()
        second.zero_grad()
        for seed in (0, 1):
            loss_of(model, seed).backward()
        (loss_of(summed, 0) + loss_of(summed, 1)).backward()
        first.step()
        second.step()
    torch.testing.assert_close(copy_of(model), copy_of(summed), rtol=1e-3, atol=1e-4)


@every_plain_case
def test_clipping(case):
    model = Small()
    optimizer = case.build(model)
    before = copy_of(model)
    backward(model)
    nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    nn.utils.clip_grad_value_(model.parameters(), 1e-3)
    optimizer.step()
    assert all_moved(before, copy_of(model))


@every_case
def test_step_hooks_run_around_the_step(case):
    model = Small()
    optimizer = case.build(model)
    before = copy_of(model)
    calls = []
    pre = optimizer.register_step_pre_hook(
        lambda *_: calls.append(all_moved(before, copy_of(model)))
    )
    post = optimizer.register_step_post_hook(
        lambda *_: calls.append(all_moved(before, copy_of(model)))
    )
    train(model, optimizer, 1)
    assert calls == [False, True]
    pre.remove()
    post.remove()
    train(model, optimizer, 1)
    assert len(calls) == 2


@every_plain_case
def test_two_runs_are_bitwise_equal(case):
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        model = Small()
        train(model, case.build(model, weight_decay=0.1))
        results.append(copy_of(model))
    assert_same(*results)


@every_case
def test_repr_shows_each_group(case):
    text = repr(case.of_groups([case.group(Small(), lr=0.25), case.group(Small())]))
    assert "Parameter Group 1" in text
    assert "lr: 0.25" in text
