"""Families whose tasks are augmented at random."""

from dataclasses import dataclass
from typing import TypeVar

import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.less_data import batch_of, with_batch, with_few_examples
from meta_train.tasks.augmentation.noisy_images import NoisyImages
from meta_train.tasks.augmentation.noisy_labels import NoisyLabels
from meta_train.tasks.augmentation.rescaled import LEVELS, Rescaled
from meta_train.tasks.augmentation.wrapped import innermost
from meta_train.tasks.family import Sampler
from meta_train.tasks.model_task import ModelTask
from meta_train.tasks.task import Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class Augmentation:
    """How tasks are augmented when they are drawn; by default not at all.

    Each kind is applied by itself, to the tasks that it makes sense for: batches to tasks with a
    batch size, images and labels to classifiers of images.

    Args:
        rescale: levels at which weights are re-scaled, one is picked evenly for each task: none,
            network, tensor or entry. An item that stands twice is picked twice as often.
        factors: greatest scales of weights, one is picked evenly for each task.
        batch: probability that a task has another batch size.
        fraction: smallest batch size, as a fraction of the task's own; log-uniform up to that.
        images: probability that training images are shifted, mirrored and made brighter or darker.
        shift: greatest shift of images in pixels.
        flip: whether images are mirrored.
        gain: greatest factor of brightness.
        labels: probability that some labels of training batches are wrong.
        wrong: greatest share of labels that are wrong.
        few: probability that a task has few training examples and is measured on held-out ones.
        examples: numbers of training examples, one is picked evenly for each such task.
    """

    rescale: tuple[str, ...] = ("none",)
    factors: tuple[float, ...] = (1000.0, 100.0, 10.0)
    batch: float = 0.0
    fraction: float = 0.01
    images: float = 0.0
    shift: int = 1
    flip: bool = True
    gain: float = 1.5
    labels: float = 0.0
    wrong: float = 0.5
    few: float = 0.0
    examples: tuple[int, ...] = (256, 512, 1024)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.rescale) - {"none", *LEVELS})
        if unknown or not self.rescale or not self.factors:
            raise MetaTrainError(
                f"cannot re-scale weights at levels {self.rescale} by factors {self.factors}.\n"
                f"  Use some of the levels none, {', '.join(LEVELS)}, and at least one factor."
            )
        for name in ("batch", "images", "labels", "wrong", "few", "fraction"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "fraction" and value == 0):
                raise MetaTrainError(
                    f"{name}={value} is no {'fraction' if name == 'fraction' else 'probability'}."
                    f"\n  Use a number from 0 to 1{', above 0' if name == 'fraction' else ''}."
                )

    def apply(self, task: Task, generator: torch.Generator) -> Task:
        """Draw what is done to a task, and do it."""
        change_batch, change_images, change_labels = (
            float(torch.rand((), generator=generator)) < probability
            for probability in (self.batch, self.images, self.labels)
        )
        few = self.few > 0 and float(torch.rand((), generator=generator)) < self.few
        level, factor = _pick(self.rescale, generator), _pick(self.factors, generator)
        smaller = self.fraction ** float(torch.rand((), generator=generator))
        if change_batch and batch_of(task):
            task = with_batch(task, max(round(batch_of(task) * smaller), 1))
        classes = classes_of_images(task)
        if change_images and classes:
            task = NoisyImages(task, self.shift, self.flip, self.gain)
        if change_labels and classes:
            task = NoisyLabels(task, classes, self.wrong)
        if few and isinstance(innermost(task), ModelTask):
            task = with_few_examples(task, _pick(self.examples, generator))
        return task if level == "none" else Rescaled(task, level, factor)


VELO = Augmentation(
    rescale=("none", "none", "network", "network", "tensor", "tensor", "entry"), batch=0.2
)
"""Re-scaling and smaller batches as VeLO was meta-trained with, arXiv:2211.09760, except that there
the size of batches is uniform."""


@dataclass(frozen=True)
class Augmented:
    """The tasks of a family, augmented at random.

    Args:
        base: the family, or anything that tasks can be drawn from; it may be augmented itself.
        augmentation: what is done to its tasks.

    Example:
        >>> from meta_train.tasks.mlp import MLP
        >>> small = MLP(width=(8,), depth=(1,))
        >>> tasks = Augmented(small, Augmentation(rescale=("tensor",), factors=(10.0,)))
        >>> tasks.sample(torch.Generator().manual_seed(0)).name.split(" + ")[1]
        'rescaled(level=tensor, factor=10)'
    """

    base: Sampler
    augmentation: Augmentation = VELO

    def sample(self, generator: torch.Generator) -> Task:
        """Draw a task and what is done to it."""
        return self.augmentation.apply(self.base.sample(generator), generator)


def classes_of_images(task: Task) -> int:
    """Number of classes of a classifier of images within its wrappers; 0 if it is none."""
    inside = innermost(task)
    if not isinstance(inside, ModelTask) or inside.data.splits["train"][0].dim() != 4:
        return 0
    return inside.data.classes


def _pick(items: tuple[Item, ...], generator: torch.Generator) -> Item:
    return items[int(torch.randint(len(items), (), generator=generator))]
