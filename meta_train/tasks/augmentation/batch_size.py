"""Other batch sizes."""

from copy import copy

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import innermost, with_innermost
from meta_train.tasks.task import Task


def batch_of(task: Task) -> int:
    """Number of samples per step of a task within its wrappers; 0 if it has no such number."""
    batch: int = getattr(innermost(task), "batch", 0)
    return batch


def with_batch(task: Task, batch: int) -> Task:
    """Return a task with another number of samples per step; the task itself stays as it is.

    Args:
        task: one with an attribute `batch`, or a wrapper around one.
        batch: number of samples, at least 1.

    Raises:
        MetaTrainError: if the task has no batch size, or the number is below 1.
    """
    if batch < 1 or not batch_of(task):
        raise MetaTrainError(
            f"cannot give the task `{task.name}` a batch size of {batch}.\n"
            "  Use a number of at least 1, and a task that draws its batches from a data set."
        )

    def change(inner: Task) -> Task:
        changed = copy(inner)
        vars(changed)["batch"] = batch
        return changed

    changed = with_innermost(task, change)
    changed.name = f"{task.name} + batch({batch})"
    return changed
