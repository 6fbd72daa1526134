"""The command `tasks`: the families of tasks, their options, and an example of each."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from tqdm import tqdm

from meta_train.curves import weights
from meta_train.errors import MetaTrainError
from meta_train.tasks.family import FAMILIES, Family, family_of
from meta_train.tasks.task import Task, problems

BATCHES = 16
"""Number of untrained models whose losses are averaged."""


@dataclass(frozen=True)
class TasksOptions:
    """List the families of tasks, what can be chosen of each, and a task drawn from each.

    Args:
        families: which to list, with options if you like, as in `mlp:width=8`; all by default.
        seed: of the tasks that are drawn.
        imports: modules to import first, which register families of your own.
    """

    families: tuple[str, ...] = ()
    seed: int = 0
    imports: tuple[str, ...] = ()


def run_tasks(options: TasksOptions, echo: Callable[[str], None] = tqdm.write) -> None:
    """Show the list.

    Args:
        options: everything there is to choose.
        echo: shows a text of some lines.
    """
    for module in options.imports:
        importlib.import_module(module)
    for text in options.families or sorted(FAMILIES):
        echo(f"{describe(family_of(text), options.seed)}\n")


def describe(family: Family, seed: int = 0) -> str:
    """What a family is, its options with their choices, and a task drawn from it.

    A family whose data is missing is described without a task.
    """
    listed = [
        f"  {field.name} = {'|'.join(map(str, getattr(family, field.name)))}"
        for field in fields(family)
    ]
    try:
        example = example_of(family.sample(torch.Generator().manual_seed(seed)), seed)
    except MetaTrainError as error:
        example = f"no example: {error}"
    return "\n".join(
        [f"{family.family}: {inspect.cleandoc(family.__doc__ or '').splitlines()[0]}", *listed]
        + [f"  {line}" for line in example.splitlines()]
    )


def example_of(task: Task, seed: int = 0) -> str:
    """Size of a task, its graph, and the loss of the untrained model."""
    graph, loss = task.graph, untrained(task, seed)
    return (
        f"for example {task.name}:\n"
        f"  {weights(task):,} weights, {len(graph.bundles)} bundles, {len(graph.hidden)} hidden "
        f"spaces, untrained loss {loss:.4g}"
    )


def untrained(task: Task, seed: int) -> float:
    """Mean loss of untrained models on a batch each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = problems(task, BATCHES, generator)
    batch = task.batches(drawn.context, BATCHES, generator)
    measure = torch.vmap(task.loss, randomness="different")
    with torch.no_grad():
        return float(measure(drawn.parameters, drawn.context, batch).mean())
