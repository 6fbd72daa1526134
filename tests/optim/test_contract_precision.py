import pytest
import torch

from tests.contract import (
    Small,
    all_moved,
    assert_same,
    backward,
    copy_of,
    every_plain_case,
    loss_of,
    train,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


@every_plain_case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parameters_keep_their_dtype_and_move(case, dtype):
    model = Small().to(dtype)
    optimizer = case.build(model)
    before = copy_of(model)
    train(model, optimizer, 3)
    assert all(p.dtype == dtype for p in model.parameters())
    # SGD's steps are too small for bfloat16 next to a weight of 1.
    assert not torch.equal(before["linear.weight"], model.linear.weight)
    assert all(p.isfinite().all() for p in model.parameters())


@every_plain_case
def test_half_precision_stays_near_single(case):
    single, half = Small(), Small()
    half.load_state_dict(single.state_dict())
    half.bfloat16()
    start = {name: p.detach().clone() for name, p in single.named_parameters()}
    train(single, case.build(single), 3)
    train(half, case.build(half), 3)
    for name, p in half.named_parameters():
        # A single entry may go elsewhere: rounding turns the direction of a small gradient, and
        # orthogonalization makes as much of a small singular value as of a large one.
        expected = single.get_parameter(name)
        away = p.float() - expected
        moved = (expected - start[name]).square().mean().sqrt()
        assert away.square().mean().sqrt() < max(0.02, 0.25 * moved)


@every_plain_case
def test_grad_scaler(case):
    model = Small()
    optimizer = case.build(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain = Small()
    plain.load_state_dict(model.state_dict())
    reference = case.build(plain)
    for seed in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, seed)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e6)
        scaler.step(optimizer)
        scaler.update()
        train(plain, reference, 1, start=seed)
    torch.testing.assert_close(copy_of(model), copy_of(plain), rtol=1e-4, atol=1e-5)


@every_plain_case
def test_grad_scaler_skips_an_overflow(case):
    model = Small()
    optimizer = case.build(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = copy_of(model)
    scaler.scale(loss_of(model)).backward()
    model.linear.weight.grad[0, 0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert_same(before, copy_of(model))
    assert scaler.get_scale() == 512


@every_plain_case
def test_half_precision_under_autocast(case):
    model = Small()
    optimizer = case.build(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model)
    loss.backward()
    before = copy_of(model)
    optimizer.step()
    assert all_moved(before, copy_of(model))


@every_plain_case
def test_a_step_inside_autocast_is_the_same_step(case):
    inside, outside = Small(), Small()
    outside.load_state_dict(inside.state_dict())
    for model in (inside, outside):
        optimizer = case.build(model)
        for seed in range(2):
            backward(model, seed)
            with torch.autocast("cpu", torch.bfloat16, enabled=model is inside):
                optimizer.step()
    assert_same(copy_of(inside), copy_of(outside))
