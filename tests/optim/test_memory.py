"""How much memory a step takes, measured in a process of its own."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import pathlib
import torch
from torch import nn
from ngopt import NeuralGraphOptimizer

torch.set_num_threads(1)


def train(sizes):
    layers = [nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])]
    model = nn.Sequential(*layers)
    optimizer = NeuralGraphOptimizer(model)
    model(torch.ones(1, sizes[0])).sum().backward()
    optimizer.step()
    return model, optimizer


def highest():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


train([2, 3, 2])  # what is allocated once and for all
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = highest()
model, optimizer = train([256, 1280, 1280, 512, 2048])
peak = highest() - before
weights = sum(p.numel() * p.element_size() for p in model.parameters())
state = sum(t.numel() * t.element_size() for s in optimizer.state.values() for t in s.values())
print(weights, state, peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux tells it")
def test_a_step_takes_less_than_three_times_the_model_and_its_state():
    # The allocator gives back what is freed, so that the peak is of what is in use.
    returning = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=returning
    )
    weights, state, peak = map(int, done.stdout.split())
    assert 2.1 * weights > state > 1.8 * weights > 2e7
    assert peak > 2 * weights + state  # the gradients are there as well
    assert peak < 3 * (weights + state)
