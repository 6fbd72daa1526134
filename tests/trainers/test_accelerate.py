"""NeuralGraphOptimizer in Accelerate does what it does in a loop of torch, to the last bit."""

import pytest
import torch

from tests.trainers.plain import assert_same, by_hand, halving, loader, loss_of, net, ours

accelerate = pytest.importorskip("accelerate")


@pytest.fixture(autouse=True)
def alone():
    """Accelerate keeps what was first asked for, for the whole process."""
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def fit(epochs=1, accumulate=1, clip=None, schedule=None, precision="no", before=None):
    accelerator = accelerate.Accelerator(
        cpu=True, gradient_accumulation_steps=accumulate, mixed_precision=precision
    )
    model = net()
    optimizer = ours(model)
    scheduler = None if schedule is None else schedule(optimizer)
    model, optimizer, data = accelerator.prepare(model, optimizer, loader())
    if scheduler is not None:
        scheduler = accelerator.prepare(scheduler)
    if before is not None:
        accelerator.load_state(before)
    for _ in range(epochs):
        for batch in data:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, batch))
                if clip is not None and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                optimizer.zero_grad()
    return accelerator, model, optimizer


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 4}, {"clip": 0.1}, {"schedule": halving}],
    ids=["plain", "accumulation", "clipping", "schedule"],
)
def test_as_by_hand(options):
    accelerator, model, optimizer = fit(2, **options)
    expected, by_us = by_hand(2, **options)
    assert_same(accelerator.unwrap_model(model), expected)
    assert optimizer.optimizer.graph == by_us.graph


def test_checkpoints_go_on_to_the_last_bit(tmp_path):
    accelerator, _, _ = fit()
    accelerator.save_state(str(tmp_path / "half"))
    accelerator, model, _ = fit(before=str(tmp_path / "half"))
    assert_same(accelerator.unwrap_model(model), by_hand(2)[0])


def test_mixed_precision():
    _, model, _ = fit(3, precision="bf16")
    with torch.no_grad():
        losses = [float(loss_of(model, batch)) for batch in loader()]
    assert sum(losses) / len(losses) < 0.7
