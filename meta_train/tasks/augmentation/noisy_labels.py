"""Wrong labels."""

import torch

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import Wrapped
from meta_train.tasks.task import Batch, Problem, Task, Tensors


class NoisyLabels(Wrapped):
    """Some labels of training batches are replaced by random classes.

    Each run draws the share of labels that are replaced, evenly between 0 and `most`. Which ones
    are replaced is drawn for each batch. Other splits keep their labels.

    Args:
        inner: a task whose batches end with labels.
        classes: number of classes.
        most: greatest share of labels, 0 to 1.

    Raises:
        MetaTrainError: if there are no classes, or the share is out of range.
    """

    def __init__(self, inner: Task, classes: int, most: float) -> None:
        if classes < 1 or not 0 <= most <= 1:
            raise MetaTrainError(
                f"cannot replace a share of up to {most} of labels by one of {classes} classes.\n"
                "  Use a task that classifies, and a share from 0 to 1."
            )
        super().__init__(inner, f"noisy labels(most={most:g})")
        self.classes, self.most = classes, most

    def problem(self, generator: torch.Generator) -> Problem:
        """Draw where one run starts, and its share of wrong labels."""
        start = self.inner.problem(generator)
        share = (self.most * torch.rand((), generator=generator)).to(self.device)
        return Problem(start.parameters, {**start.context, self.key("share"): share})

    def batches(
        self, context: Tensors, runs: int, generator: torch.Generator, split: str = "train"
    ) -> Batch:
        """Draw one batch for each run."""
        *inputs, labels = self.inner.batches(context, runs, generator, split)
        if split == "train":
            draws = torch.rand(labels.shape, generator=generator).to(labels.device)
            others = torch.randint(self.classes, labels.shape, generator=generator)
            share = context[self.key("share")].view(-1, *[1] * (labels.dim() - 1))
            labels = torch.where(draws < share, others.to(labels), labels)
        return (*inputs, labels)
