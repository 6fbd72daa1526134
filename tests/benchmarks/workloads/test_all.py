"""Every workload takes two steps by its recipe and has a finite metric."""

import math

import pytest

from benchmarks.workloads import trained
from benchmarks.workloads.discovery import discovered
from benchmarks.workloads.optimizers import its_own
from benchmarks.workloads.run import run, seed_all
from meta_train.errors import MetaTrainError

FOUND, _ = discovered()
HEAVY = {
    "char_gpt_next",
    "distillation",
    "frozen_linear",
    "frozen_two_layers",
    "minilm_full",
    "minilm_head",
    "minilm_lora",
}
"""What takes more than a few seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in FOUND]
)
def test_two_steps_and_a_metric(name, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "shelf", trained.Shelf(tmp_path, steps=1))
    workload = FOUND[name]
    seed_all(0)
    try:
        training = workload.build(0)
    except (ImportError, MetaTrainError, FileNotFoundError) as missing:
        pytest.skip(str(missing))
    found = run(workload, training, "recipe", its_own, 0, steps=2, every=2)
    assert all(loss is not None for loss in found.losses)
    assert found.metrics[-1] is not None
    assert math.isfinite(found.metrics[-1])
    assert workload.task in ("fresh", "fine-tuning")
