"""Models that a workload has trained by its recipe, for others to start from."""

from pathlib import Path

import torch
from torch import nn

from benchmarks.workloads.optimizers import its_own
from benchmarks.workloads.run import run
from benchmarks.workloads.workload import Workload
from meta_train.shared_files import claim


class Shelf:
    """Where trained models are kept.

    Args:
        folder: of their files.
        steps: how long they are trained; None for as long as the recipe says.
    """

    def __init__(self, folder: Path, steps: int | None = None) -> None:
        self.folder, self.steps = folder, steps


shelf = Shelf(Path("runs/workloads/trained"))
"""Of this process; the command line changes it."""


def trained(workload: Workload, seed: int = 0) -> nn.Module:
    """The model of a workload as its recipe has trained it, which is done once.

    The model is kept in a file; delete it after a change of the workload. Random numbers drawn
    afterwards depend on whether there was a file: seed them anew.

    Args:
        workload: of one model. It need not be one that the command line knows.
        seed: of its weights and batches.
    """
    steps = shelf.steps or workload.steps
    training = workload.build(seed)
    ((model, _),) = training.recipes
    path = shelf.folder / f"{workload.name}-{seed}-{steps}.pt"
    with claim(path, wait=True):
        if not path.is_file():
            run(workload, training, "recipe", its_own, seed, steps, every=steps)
            partial = path.with_suffix(".partial")
            torch.save(model.state_dict(), partial)
            partial.replace(path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model
