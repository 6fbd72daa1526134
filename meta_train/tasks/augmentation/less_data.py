"""Less data: smaller batches, or few training examples, which a model can learn by heart."""

from copy import copy

from meta_train.errors import MetaTrainError
from meta_train.tasks.augmentation.wrapped import innermost, with_innermost
from meta_train.tasks.model_task import ModelTask
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


def with_few_examples(task: Task, examples: int) -> Task:
    """Return a task that trains on part of its data and is measured on held-out data.

    Runs go over the same examples again and again, so what counts is how well they generalise.

    Args:
        task: one with a data set, or a wrapper around one; it stays as it is.
        examples: number of training examples that are left: the first of the data set, which come
            in no order.

    Raises:
        MetaTrainError: if the task has no data set, or not so many examples.
    """
    inside = innermost(task)
    known = len(inside.data.splits["train"][0]) if isinstance(inside, ModelTask) else 0
    if not 1 <= examples <= known:
        raise MetaTrainError(
            f"cannot leave {examples} training examples to the task `{task.name}`, which has "
            f"{known}.\n  Use a task that draws its batches from a data set, and from 1 to all of "
            "its examples."
        )

    def change(inner: Task) -> Task:
        assert isinstance(inner, ModelTask)
        changed = copy(inner)
        changed.data, changed.measure = inner.data.first(examples), "held_out"
        return changed

    changed = with_innermost(task, change)
    changed.name = f"{task.name} + examples({examples})"
    return changed
