"""Models trained before a workload begins, kept in files."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "runs" / "workloads" / "pretrained"
"""Git ignores it; delete it after a change of how a model is trained."""


def pretrained(name: str, seed: int, train: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """Load the state of a model, or train the model where there is no such file.

    The random state of torch is then another one: set a seed afterwards.

    Args:
        name: of the model.
        seed: given to `train`.
        train: makes and trains the model.
    """
    file = FOLDER / f"{name}-{seed}.pt"
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        state = train(seed).state_dict()
        # Under another name first, so that a run beside this one never reads half a file.
        with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as unfinished:
            torch.save(state, unfinished)
        os.replace(unfinished.name, file)
    return torch.load(file, weights_only=True)
