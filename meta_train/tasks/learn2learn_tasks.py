"""Few-shot tasks of learn2learn: each run of a task learns a task of its own.

See docs/learn2learn.md for what learn2learn is, and how to install it.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from meta_train.data.dataset import Dataset
from meta_train.data.images import images
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import Family, register
from meta_train.tasks.model_parts import perceptron
from meta_train.tasks.model_task import Loss, ModelTask
from meta_train.tasks.task import SPLITS, Batch, Problem, Tensors


class Taskset(Protocol):
    """What tasks are drawn from: a `learn2learn.data.Taskset`, or anything with its method."""

    def sample(self) -> tuple[Tensor, Tensor]:
        """Draw the data of a task: samples (n, ...) and their targets (n,)."""


class FewShotTask(ModelTask):
    """A module learns a few samples of each of a few classes.

    Each run draws a few-shot task of its own, which is kept in its context. Of each class, the
    first `shots` samples are to learn from (the support set); one half of the others (the query
    set) is held out, the other half is for tests. Floating-point targets are of no class: then
    `shots` is the number of all samples to learn from.

    A task set draws by Python's, NumPy's and torch's global generators; these are seeded meanwhile,
    and restored.

    Args:
        taskset: what few-shot tasks are drawn from, all of one shape.
        build: makes the module, with random weights from torch's global generator.
        loss: of outputs and targets, 0-dim.
        shots: number of samples per class to learn from.
        batch: number of samples per step, drawn with replacement; 0 for all there are.
        name: of the task.

    Raises:
        MetaTrainError: if classes have fewer than `shots + 2` samples, or not equally many.
    """

    def __init__(
        self,
        taskset: Taskset,
        build: Callable[[], nn.Module],
        loss: Loss = cross_entropy,
        shots: int = 5,
        batch: int = 0,
        name: str = "few-shot",
    ) -> None:
        self.taskset, self.shots = taskset, shots
        splits = _draw(taskset, shots, name, torch.Generator().manual_seed(0))
        targets = splits["train"][1]
        classes = 0 if targets.is_floating_point() else len(targets) // shots
        super().__init__(build, Dataset(name, splits, classes), loss, batch, name)

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw the weights of a fresh module, and a few-shot task.

        Raises:
            MetaTrainError: if the few-shot task has not the shape of others.
        """
        start = super().problem(generator)
        context = {}
        for split, tensors in _draw(self.taskset, self.shots, self.name, generator).items():
            for index, tensor in enumerate(tensors):
                known = self.data.splits[split][index]
                if tensor.shape != known.shape:
                    raise MetaTrainError(
                        f"tasks of `{self.name}` differ in shape: {tuple(tensor.shape)} and "
                        f"{tuple(known.shape)}.\n  Use a task set whose tasks have as many "
                        "classes, samples per class and features each, so that they can be stacked."
                    )
                context[f"{split} {index}"] = tensor.to(self.device)
        return Problem(start.parameters, context)

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw samples of each run's own few-shot task: each tensor is (runs, batch, ...)."""
        tensors = [context[f"{split} {index}"] for index in range(2)]
        if not self.batch:
            return tuple(tensors)
        index = torch.randint(tensors[0].shape[1], (runs, self.batch), generator=generator)
        rows = torch.arange(runs).unsqueeze(1)
        return tuple(tensor[rows.to(tensor.device), index.to(tensor.device)] for tensor in tensors)


def _draw(
    taskset: Taskset, shots: int, name: str, generator: torch.Generator
) -> dict[str, tuple[Tensor, ...]]:
    """Draw a few-shot task in three splits."""
    with _seeded(generator):
        inputs, targets = taskset.sample()
    one_class = torch.zeros(len(targets), dtype=torch.long)
    classes = one_class if targets.is_floating_point() else targets
    order, counts = classes.argsort(stable=True), classes.bincount()
    counts = counts[counts > 0]
    each = int(counts[0])
    if (counts != each).any() or each < shots + 2 or shots < 1:
        raise MetaTrainError(
            f"a task of `{name}` has {counts.tolist()} samples per class, of which {shots} are to "
            "learn from.\n  Use a task set with equally many of each class: at least one to learn "
            "from, one held out and one for tests."
        )
    held_out = (each - shots + 1) // 2
    by_class = order.view(len(counts), each)
    parts = torch.split(by_class, [shots, held_out, each - shots - held_out], 1)
    return {
        split: (inputs[part.flatten()], targets[part.flatten()])
        for split, part in zip(SPLITS, parts, strict=True)
    }


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch, and restore them afterwards."""
    seed = int(torch.randint(2**32, (), generator=generator))
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@register("learn2learn")
@dataclass(frozen=True)
class Learn2Learn(Family):
    """Few-shot classification of images by MLPs, on task sets of learn2learn.

    Args:
        data: image data sets.
        size: of the images, in pixels.
        ways: number of classes of a few-shot task.
        shots: samples per class to learn from.
        queries: samples per class held out, and as many for tests.
        width: of the hidden layers.
        depth: number of hidden layers.
        activation: of :data:`~meta_train.tasks.model_parts.ACTIVATIONS`.
        batch: samples per step; 0 for all that there are to learn from.
    """

    data: tuple[str, ...] = ("digits",)
    size: tuple[int, ...] = (8,)
    ways: tuple[int, ...] = (5,)
    shots: tuple[int, ...] = (5,)
    queries: tuple[int, ...] = (10,)
    width: tuple[int, ...] = (32, 64)
    depth: tuple[int, ...] = (1, 2)
    activation: tuple[str, ...] = ("relu",)
    batch: tuple[int, ...] = (0,)

    def task(
        self,
        data: str,
        size: int,
        ways: int,
        shots: int,
        queries: int,
        width: int,
        depth: int,
        activation: str,
        batch: int,
    ) -> FewShotTask:
        """Build the task of one choice of each field.

        Raises:
            MetaTrainError: if learn2learn cannot be imported.
        """
        taskset = few_shot_images(data, size, ways, shots + 2 * queries)
        inputs = images(data, size).splits["train"][0][0].numel()

        def build() -> nn.Module:
            sizes = [inputs, *[width] * depth, ways]
            return nn.Sequential(nn.Flatten(), *perceptron(sizes, activation))

        return FewShotTask(taskset, build, shots=shots, batch=batch)


def few_shot_images(data: str, size: int, ways: int, samples: int) -> Taskset:
    """Task set of learn2learn: some classes of a data set, numbered anew, some images of each.

    Args:
        data: image data set, of which the training split is used.
        size: of the images, in pixels.
        ways: number of classes of each task.
        samples: number of images of each class.

    Raises:
        MetaTrainError: if learn2learn cannot be imported.
    """
    library = _library()
    dataset = _meta_dataset(data, size)
    transforms = library.data.transforms
    steps = [
        transforms.NWays(dataset, n=ways),
        transforms.KShots(dataset, k=samples),
        transforms.LoadData(dataset),
        transforms.RemapLabels(dataset),
    ]
    taskset: Taskset = library.data.Taskset(dataset, steps)
    return taskset


@cache
def _meta_dataset(data: str, size: int) -> Any:
    pictures, labels = images(data, size).splits["train"]
    return _library().data.MetaDataset(TensorDataset(pictures, labels))


def _library() -> Any:
    try:
        return import_module("learn2learn")
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises the latter
        raise MetaTrainError(
            f"learn2learn cannot be imported: {error}.\n"
            "  Install it, and the torchvision made for your torch, as docs/learn2learn.md says: "
            "bash .ci/install_learn2learn."
        ) from error
